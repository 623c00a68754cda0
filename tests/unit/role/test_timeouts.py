"""The two nodes work with different detection timeouts, as while a changed one rolls out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.role.scene import (
    FOLLOWING,
    IN_SYNC,
    LOST,
    PRIMARY,
    RECORD,
    START,
    Scene,
    T,
    heard,
    says,
)
from twinhull_sidecar.role.model import (
    Decision,
    PeerView,
    ProbeView,
    StartPrimary,
    StartSecondary,
    StopSecondary,
)

NOW = START + 10.0
CLOSED = replace(LOST, closed_by_peer=True)


def silent(after: float, own: float, engine: Any = LOST, **said: Any) -> Decision:
    """A secondary in sync with timeout ``own`` that last heard b, which said ``said``, ``after`` seconds ago."""
    scene = Scene(detection_timeout=own)
    scene.see(NOW, engine=IN_SYNC, **heard(NOW, **said))
    probe = ProbeView(NOW + after - 0.3, NOW + after - 0.1)
    return scene.see(NOW + after, engine=engine, probe=probe, **heard(NOW, **said))


def takes_over(after: float, own: float, engine: Any = LOST, **said: Any) -> bool:
    return StopSecondary() in silent(after, own, engine, **said).effects


TEN = {"detection_timeout": 10.0, "lease": 5.5}
THREE = {"detection_timeout": 3.0, "lease": 2.0}


def test_a_lowered_timeout_waits_for_the_primarys_longer_leases() -> None:
    assert [takes_over(after, 1.0, **TEN) for after in (1.1, 5.0, 9.9, 10.0)] == [False, False, False, True]


def test_the_same_when_the_primarys_kernel_closed_the_stream() -> None:
    # 5.5 s of lease, renewed up to a heartbeat after the last one heard.
    assert [takes_over(after, 1.0, CLOSED, **TEN) for after in (0.8, 7.1, 7.4, 7.6)] == [
        False,
        False,
        False,
        True,
    ]


def test_a_raised_timeout_takes_over_in_the_primarys_window() -> None:
    assert [takes_over(after, 10.0, **THREE) for after in (2.9, 3.0, 4.2)] == [False, True, True]
    assert silent(4.4, 10.0, **THREE).code == "MissedWindow"


def test_whole_seconds_and_the_time_to_kill_count_while_the_timeouts_differ() -> None:
    short = {"detection_timeout": 0.5, "lease": 1.0}
    assert [takes_over(after, 3.0, **short) for after in (0.6, 1.05, 1.15)] == [False, False, True]


def test_a_longer_lease_counts_with_the_same_timeout() -> None:
    """An address was added: it is leased for whole seconds."""
    said = {"detection_timeout": 1.0, "lease": 1.0}
    assert [takes_over(after, 1.0, **said) for after in (1.05, 1.25)] == [False, True]


def test_equal_timeouts_change_nothing() -> None:
    same = {"detection_timeout": T, "lease": T / 2}
    for engine, early, enough in ((LOST, 2.9, 3.0), (CLOSED, 2.0, 2.2)):
        assert not takes_over(early, T, engine, **same)
        assert takes_over(enough, T, engine, **same)


def test_a_release_that_announces_nothing_is_taken_for_equal() -> None:
    assert [takes_over(after, T) for after in (2.9, 3.0)] == [False, True]


def test_the_lan_is_not_asked_before_the_longer_silence_is_near() -> None:
    assert silent(2.0, 1.0, **TEN).code == "InSync"
    assert silent(6.5, 1.0, **TEN).code == "PeerSilent"


def test_a_process_that_has_heard_nothing_promotes_nothing_by_silence() -> None:
    """After a restart the announcement is forgotten, and with it the right."""
    scene = Scene(detection_timeout=0.5)
    for after in (0.1, 1.0, 5.0, 50.0):
        probe = ProbeView(NOW + after - 0.3, NOW + after - 0.1)
        seen = scene.see(NOW + after, engine=LOST, probe=probe)
        assert seen.effects in {(), (StartSecondary(),)}
    assert seen.code == "MissedWindow"


def test_a_start_on_the_peers_word_waits_until_it_has_heard_this_process() -> None:
    """Else it would wait for the leases of the process before this one."""
    record = replace(RECORD, token="t1")
    words = says(serving=False, handed_over="t1", token="t1", stream=None, heard_process="an earlier one")
    scene = Scene(detection_timeout=10.0)
    seen = scene.see(NOW, record=record, **heard(NOW, words))
    assert (seen.effects, seen.code) == ((StartSecondary(),), "Introducing")
    assert seen.reason == "b handed over: waiting for b to hear this process"
    knowing = replace(words, heard_process=seen.message.process)
    then = scene.see(NOW + 0.1, record=record, **heard(NOW + 0.1, knowing))
    assert then.effects == (StartPrimary(alone=False),)


def test_a_secondary_in_sync_waits_for_that_too() -> None:
    words = says(serving=False, stream=None, role="Waiting", heard_process="an earlier one")
    scene = Scene()
    seen = scene.see(NOW, engine=LOST, **heard(NOW, words))
    assert (seen.effects, seen.code) == ((), "Introducing")
    knowing = replace(words, heard_process=seen.message.process)
    assert scene.see(NOW + 0.1, engine=LOST, **heard(NOW + 0.1, knowing)).effects == (StopSecondary(),)


def test_what_is_said_names_the_process_that_was_heard() -> None:
    scene = Scene()
    assert scene.see(NOW).message.heard_process is None
    assert scene.see(NOW + 0.1, **heard(NOW + 0.1, process="p7")).message.heard_process == "p7"
    # Long silent, it is still what this node knows.
    gone = PeerView(says(process="p7"), NOW + 0.1, NOW, "i1")
    assert scene.see(NOW + 60.0, peer=gone).message.heard_process == "p7"


@pytest.mark.parametrize(("longest", "asked_at"), [(0.0, 3.7), (3.0, 4.3)])
def test_a_primary_without_the_address_asks_for_it_when_the_peer_has_taken_it(
    longest: float, asked_at: float
) -> None:
    scene = Scene(longest_lease=longest).serving(NOW)
    gone = {**PRIMARY, "vip_held": False, "engine": replace(PRIMARY["engine"], connected=False)}
    asked = [
        after
        for after in (3.1, 3.5, 3.7, 4.1, 4.3)
        if scene.see(NOW + after, **gone, **heard(NOW, FOLLOWING)).effects[1:]
    ]
    assert asked[0] == asked_at
