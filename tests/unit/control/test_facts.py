"""Reports become observations; what is damaged is refused, naming it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control.doubles import EngineDouble, module
from twinhull_sidecar.config import Application, ConfigError, VirtualIP
from twinhull_sidecar.control import observe
from twinhull_sidecar.control.engine import engine_config
from twinhull_sidecar.control.events import LIMIT, EventLog
from twinhull_sidecar.control.persisted import Store
from twinhull_sidecar.control.status import wording
from twinhull_sidecar.control.timeline import TimelineKeeper
from twinhull_sidecar.role.decide import begin, decide
from twinhull_sidecar.role.lineage import Relation, compare
from twinhull_sidecar.role.model import (
    HoldVip,
    Observation,
    Outcome,
    PeerMessage,
    Persisted,
    Phase,
    Promotion,
    Record,
    StartApplication,
    StartPrimary,
)
from twinhull_sidecar.workload import Phase as WorkloadPhase
from twinhull_sidecar.workload import WorkloadState


def test_a_peers_message_survives_json() -> None:
    message = PeerMessage(node="b", uid="u", history=("x", "y"), token=None, hears_ms=12.5, serving=True)
    assert observe.peer_message(json.loads(json.dumps(asdict(message)))) == message


def test_fields_of_a_newer_release_are_ignored() -> None:
    assert observe.peer_message({"node": "b", "uid": "u", "news": 1}) == PeerMessage(node="b", uid="u")


@pytest.mark.parametrize(
    "wrong",
    [{"history": "x"}, {"history": [1]}, {"serving": 1}, {"intent": True}, {"token": 3}, {"uid": None}],
)
def test_a_message_with_a_wrong_type_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        observe.peer_message({"node": "b", "uid": "u"} | wrong)


@pytest.mark.parametrize("field", ["detection_timeout", "lease"])
@pytest.mark.parametrize("wrong", ["0", "-3", "60.1", "1e300", "NaN", "Infinity", '"3"', "true", "[3]"])
def test_a_duration_that_no_configuration_gives_is_refused(field: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=field):
        observe.peer_message({"node": "b", "uid": "u", field: json.loads(wrong)})


@pytest.mark.parametrize(
    ("timeout", "changes", "longest"),
    [
        (3.0, {}, 2.0),  # the application's: 1.5 s and the time to kill
        (60.0, {}, 30.5),
        (3.0, {"application": Application(adapter="process")}, 1.5),
        (0.5, {"application": Application(adapter="process"), "virtual_ips": (VirtualIP("10.0.0.9"),)}, 1.0),
        (0.5, {"virtual_ips": (VirtualIP("10.0.0.9"),)}, 1.0),
        (4.8, {"application": Application(adapter="process"), "virtual_ips": (VirtualIP("10.0.0.9"),)}, 2.4),
        (5.2, {"application": Application(adapter="process"), "virtual_ips": (VirtualIP("10.0.0.9"),)}, 3.0),
    ],
)
def test_the_longest_lease_is_announced(timeout: float, changes: dict[str, Any], longest: float) -> None:
    config = module(detection_timeout=timeout, **changes)
    settings = observe.settings(config, "a")
    assert settings.timing.longest_lease == longest
    seen = Observation(now=1.0, record=Record(), engine=observe.engine_view(EngineDouble().values, 1.0))
    said = decide(begin(settings, 1.0, Persisted()), seen).message
    assert (said.detection_timeout, said.lease) == (timeout, longest)
    assert observe.peer_message(json.loads(json.dumps(asdict(said)))) == said


def test_ages_become_moments() -> None:
    status = EngineDouble().values | {"disconnected_ms": 500.0, "heard_ms": 250.0}
    view = observe.engine_view(status, 100.0)
    assert view.disconnected_at == 99.5
    assert view.heard_at == 99.75


def test_an_unfinished_first_copy_is_no_data_of_ones_own() -> None:
    facts = EngineDouble().facts | {"fresh": False, "has_data": True, "consistent": False}
    mine = observe.record_view(facts | {"generation": "0" * 32})
    assert (mine.fresh, mine.has_data, mine.generation) == (True, False, "")
    theirs = observe.record_view(facts | {"generation": "ab" * 16})
    assert (theirs.fresh, theirs.has_data) == (False, True)
    assert compare(mine, theirs) is Relation.BEHIND


def test_an_application_that_someone_else_ends_has_not_failed() -> None:
    state = WorkloadState(WorkloadPhase.FAILED, epoch=2, terminating=True)
    assert observe.workload_view(state).phase is Phase.STOPPING
    state = WorkloadState(WorkloadPhase.HELD, epoch=2, terminating=True)
    assert observe.workload_view(state).phase is Phase.HELD


def test_the_engine_is_told_addresses_of_every_link() -> None:
    document = json.loads(engine_config(module("/base"), "b", b"\x01" * 32))
    assert document["listen"] == ["127.0.0.2:17401"]
    assert document["connect"] == ["127.0.0.1:17401"]
    assert document["peer"] == "a"
    assert document["volumes"] == [
        {"name": "data", "backing": "/base/volumes/data", "mountpoint": "/base/mnt/data"}
    ]


def test_a_streams_signs_of_life_are_enough_for_every_other_timeout() -> None:
    silences = []
    for timeout in (0.5, 1.0, 3.0, 10.0, 60.0):
        document = json.loads(engine_config(module("/base", detection_timeout=timeout), "b", bytes(32)))
        silences.append(document["peer_timeout_ms"])
    assert silences == [500, 500, 1500, 1500, 1500]
    assert max(silences) / 4 < min(silences)


def test_nothing_persisted_is_the_beginning(tmp_path: Path) -> None:
    assert Store(tmp_path).load() == Persisted()


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"version": 1, "x": 1}', '{"version": 1, "intent": "2"}'),
        *('{"version": 1, "intent": true}', '{"version": 1, "held": 1}', '{"version": 1, "overrides": []}'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "intent.json").write_text(content)
    with pytest.raises(ConfigError, match=r"intent.json: is damaged .*; remove the file"):
        Store(tmp_path).load()


def test_a_file_of_another_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "intent.json").write_text('{"version": 2}')
    with pytest.raises(ConfigError, match="another release"):
        Store(tmp_path).load()


def test_events_are_bounded_and_not_repeated() -> None:
    events = EventLog(lambda: 5.0)
    for _ in range(3):
        events.normal("Same", "again")
    assert len(events) == 1
    for number in range(2 * LIMIT):
        events.warning("Code", f"{number}")
    assert len(events) == LIMIT
    assert events.newest is not None
    assert events.newest.message == f"{2 * LIMIT - 1}"


def test_a_sentence_with_other_figures_is_the_same_sentence() -> None:
    assert wording("b has been silent for 1.2 s") == wording("b has been silent for 1.3 s")
    assert wording("b is silent") != wording("a is silent")


def test_the_timeline_follows_one_promotion() -> None:
    wall, mono = [1000.0], [50.0]
    keeper = TimelineKeeper(lambda: wall[0], lambda: mono[0])
    promotion = Promotion(since=49.0, alone=True, cause="a is silent", code="PeerLost")
    keeper.decided(promotion, heard_at=46.0)
    for effect in (StartPrimary(alone=True), HoldVip(), StartApplication(1)):
        wall[0] += 0.1
        mono[0] += 0.1
        keeper.ended(Outcome(effect), 50.15)
    keeper.ready()
    line = keeper.current
    assert line is not None
    assert (line.cause, line.code) == ("a is silent", "PeerLost")
    assert (line.peer_lost, line.detected) == (996.0, 999.0)
    assert line.promoted == pytest.approx(1000.1)
    assert line.vip_announced == pytest.approx(1000.15)
    assert line.application_started == pytest.approx(1000.3)
    assert line.application_ready == pytest.approx(1000.3)
    # A failed effect is no step, a restart of the application later on does not move the figures.
    wall[0] = 2000.0
    keeper.ended(Outcome(HoldVip(), ok=False), None)
    keeper.ended(Outcome(StartApplication(2)), None)
    assert keeper.current == line
