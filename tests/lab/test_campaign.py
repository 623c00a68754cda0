"""The short form of the power-cut campaign: every application, every kind of moment, one seed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import FIGURES
from tests.lab.campaign.applications import Templates
from tests.lab.campaign.case import APPLICATIONS, FILE_SYSTEMS, MOMENTS, VICTIMS, draw
from tests.lab.campaign.ledger import Ledger
from tests.lab.campaign.raw import after, judge_restarted, judge_survivor, operation, trees
from tests.lab.campaign.run import run_case
from tests.lab.disk import kernel_has

SEED = 6
#: One case of each application; the file systems come in turns.
CASES = range(len(APPLICATIONS))


@pytest.fixture(scope="module")
def templates() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="twinhull-campaign-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        Templates(directory).postgresql()
        yield directory


@pytest.mark.parametrize("number", CASES)
def test_nothing_acknowledged_is_lost_by_a_power_cut(number: int, templates: Path) -> None:
    there = [name for name in FILE_SYSTEMS if kernel_has(name)]
    assert there, "neither ext4 nor xfs can be made and mounted here"
    # One file system a case, in turns; where the kernel has one only, that.
    case = draw(SEED, number, (there[number % len(there)],))
    result = run_case(case, templates)
    story = "\n".join(result.story)
    assert not result.failure, f"{case}\n{story}\n{result.failure}"
    assert result.cuts >= 1
    FIGURES.append(f"{case}: {result.acknowledged} acknowledged, 0 lost, {result.seconds:.1f} s")


def test_a_case_is_drawn_from_seed_and_number_alone() -> None:
    assert draw(1, 7) == draw(1, 7)
    assert draw(1, 7) != draw(2, 7)
    cases = [draw(3, number) for number in range(200)]
    assert {case.application for case in cases} == set(APPLICATIONS)
    assert {case.file_system for case in cases} == set(FILE_SYSTEMS)
    strikes = [strike for case in cases for strike in case.strikes]
    assert {strike.moment for strike in strikes} == set(MOMENTS)
    assert {strike.victim for strike in strikes} == set(VICTIMS)


def test_the_ledger_finds_a_lost_operation() -> None:
    ledger = Ledger(1)
    for number in (1, 2, 3):
        ledger.acknowledge(0, number)
    ledger.judge({0: 4})
    with pytest.raises(AssertionError, match=r"LOST.*up to 4 .* only 2"):
        ledger.judge({0: 2}, forgiven=1)
    with pytest.raises(AssertionError, match="last begun"):
        ledger.judge({0: 6})


def test_files_of_a_node_that_kept_its_power_are_those_after_one_operation() -> None:
    history = [tree for _, tree in trees({}, 1, 30)]
    assert judge_survivor({}, 1, 30, history[30], every=True) == 30
    flushed = max(number for number in range(1, 31) if operation(number).durable)
    assert judge_survivor({}, 1, 30, history[flushed], every=False) == flushed
    with pytest.raises(AssertionError, match="LOST"):
        judge_survivor({}, 1, 30, history[flushed - 1], every=False)
    # Something later without something earlier.
    with pytest.raises(AssertionError, match="LOST"):
        judge_survivor({}, 1, 30, after(history[20], operation(30)), every=False)


def test_files_of_a_node_that_lost_its_power_have_what_was_flushed() -> None:
    last = 40
    whole = list(trees({}, 1, last))[-1][1]
    judge_restarted({}, 1, last, whole)
    flushed = next(
        number
        for number in range(last, 0, -1)
        if operation(number).durable and operation(number).kind == "append"
    )
    name = operation(flushed).name
    with pytest.raises(AssertionError, match="LOST"):
        judge_restarted({}, 1, flushed, dict(list(trees({}, 1, flushed - 1))[-1][1]) | {name: b""})
