"""A secondary: when it takes over, and when it must not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.role.scene import IN_SYNC, LOST, RECORD, START, Scene, heard, says
from twinhull_sidecar.role.model import (
    Decision,
    EngineView,
    Outcome,
    Persisted,
    ProbeView,
    ProbeVip,
    Role,
    StartPrimary,
    StartSecondary,
    StopSecondary,
)

NOW = START + 10.0


def lost(after: float, *, engine: EngineView = LOST, probe: ProbeView | None = None, **changes: Any) -> Scene:
    """A secondary in sync that last heard b at NOW, ``after`` seconds later."""
    scene = Scene(**changes)
    scene.see(NOW, engine=IN_SYNC, **heard(NOW))
    scene.see(NOW + after, engine=engine, probe=probe, **heard(NOW))
    return scene


def test_follows_the_serving_peer() -> None:
    seen = Scene().see(NOW, **heard(NOW))
    assert (seen.role, seen.effects) == (Role.SYNCING, (StartSecondary(),))
    assert seen.reason == "Waiting for the replication stream of b"


def test_in_sync_is_secondary() -> None:
    seen = Scene().see(NOW, engine=IN_SYNC, **heard(NOW))
    assert (seen.role, seen.code, seen.reason) == (Role.SECONDARY, "InSync", "Secondary: in sync with b")
    assert seen.message.in_sync


def test_probes_the_address_while_the_silence_grows() -> None:
    scene = lost(1.9)
    assert scene.last is not None
    assert (scene.last.effects, scene.last.code) == ((ProbeVip(),), "PeerSilent")
    assert scene.last.reason == "b has been silent for 1.9 s"


def test_takes_over_after_the_detection_timeout_with_a_free_address() -> None:
    scene = lost(3.0, probe=ProbeView(NOW + 1.9, NOW + 2.8))
    assert scene.last is not None
    assert scene.last.effects == (StopSecondary(),)
    assert scene.last.code == "PeerLost"
    assert scene.last.reason == (
        "b has been silent on every link for 3.0 s and this node holds every acknowledged write: taking over"
    )
    assert scene.last.message.claiming
    stopped = Outcome(StopSecondary())
    assert scene.see(NOW + 3.1, outcomes=(stopped,), **heard(NOW)).effects == (StartPrimary(alone=True),)


def test_does_not_take_over_a_taken_address() -> None:
    scene = lost(3.2, probe=ProbeView(NOW + 1.9, NOW + 2.8, taken=("192.0.2.1",)))
    assert scene.last is not None
    assert scene.last.role is Role.WAITING
    assert (
        scene.last.reason
        == "b has been silent for 3.2 s, but another node answers for 192.0.2.1: not taking over"
    )
    assert scene.last.effects == (ProbeVip(),)


@pytest.mark.parametrize(("timeout", "lease", "early", "late"), [(3.0, 2.0, 3.5, 3.7), (1.0, 1.0, 1.6, 1.7)])
def test_an_address_that_the_dying_primary_may_still_have_is_no_cause_for_a_warning(
    timeout: float, lease: float, early: float, late: float
) -> None:
    said: dict[str, Any] = {"detection_timeout": timeout, "lease": lease}
    scene = Scene(detection_timeout=timeout, longest_lease=lease)
    scene.see(NOW, engine=IN_SYNC, **heard(NOW, **said))

    def seen(after: float, **probe: Any) -> Decision:
        view = ProbeView(NOW + after - 0.2, **{"finished_at": NOW + after - 0.1, **probe})
        engine = replace(LOST, closed_by_peer=True)
        return scene.see(NOW + after, engine=engine, probe=view, **heard(NOW, **said))

    for probe in ({"taken": ("192.0.2.1",)}, {"finished_at": None}):
        quiet = seen(early, **probe)
        assert (quiet.code, quiet.role) == ("PeerSilent", Role.SECONDARY)
        assert "its lease of the virtual address may still run" in quiet.reason
    assert (seen(early, error="no carrier").code, seen(early, error="no carrier").role) == (
        "VipTaken",
        Role.WAITING,
    )
    taken = seen(late, taken=("192.0.2.1",))
    assert (taken.code, taken.role) == ("VipTaken", Role.WAITING)
    assert seen(late + 0.05).code == "PeerLost"


def test_a_probe_from_before_the_silence_does_not_count() -> None:
    scene = lost(3.0, probe=ProbeView(NOW - 1.0, NOW - 0.5))
    assert scene.last is not None
    assert scene.last.effects == (ProbeVip(),)
    seen = scene.see(NOW + 3.3, engine=LOST, probe=ProbeView(NOW - 1.0, NOW - 0.5), **heard(NOW))
    assert "the virtual address has not been probed" in seen.reason


def test_one_live_link_is_enough_to_stay() -> None:
    scene = Scene()
    scene.see(NOW, engine=IN_SYNC, **heard(NOW))
    late = heard(NOW + 2.9)
    seen = scene.see(NOW + 3.5, engine=IN_SYNC, peer=late["peer"], links=(late["links"][0],))
    assert (seen.role, seen.effects) == (Role.SECONDARY, ())


def test_a_live_stream_counts_as_a_link() -> None:
    scene = lost(3.5, engine=replace(IN_SYNC, heard_at=NOW + 3.2))
    assert scene.last is not None
    assert (scene.last.effects, scene.last.role) == ((), Role.SECONDARY)


def test_a_stream_closed_by_the_primarys_kernel_shortens_the_wait_to_its_leases() -> None:
    closed = replace(LOST, closed_by_peer=True)
    probe = ProbeView(NOW + 1.3, NOW + 1.9)
    early, enough = lost(2.0, engine=closed, probe=probe), lost(2.2, engine=closed, probe=probe)
    assert early.last is not None
    assert enough.last is not None
    assert early.last.effects == ()
    assert enough.last.effects == (StopSecondary(),)


def test_past_the_window_the_primary_may_have_gone_on_alone() -> None:
    scene = lost(4.4, probe=ProbeView(NOW + 3.0, NOW + 4.0))
    assert scene.last is not None
    assert (scene.last.role, scene.last.code) == (Role.WAITING, "MissedWindow")
    assert "may have gone on alone meanwhile" in scene.last.reason
    assert "force-primary" in scene.last.reason


def test_with_wait_and_no_witness_it_waits() -> None:
    scene = lost(3.2, probe=ProbeView(NOW + 1.9, NOW + 2.8), without_witness="Wait")
    assert scene.last is not None
    assert (scene.last.role, scene.last.code, scene.last.effects) == (Role.WAITING, "NoWitness", ())
    assert "failover.withoutWitness is Wait" in scene.last.reason


def test_syncing_is_never_promoted() -> None:
    syncing = replace(LOST, in_sync=False)
    scene = lost(3.2, engine=syncing, probe=ProbeView(NOW + 1.9, NOW + 2.8))
    assert scene.last is not None
    assert scene.last.role is Role.WAITING
    assert not any(isinstance(effect, (StopSecondary, StartPrimary)) for effect in scene.last.effects)


def test_a_promise_not_to_be_promoted_is_kept() -> None:
    scene = Scene()
    asked = scene.see(NOW, engine=LOST, **heard(NOW, dropping="s1"))
    assert (asked.message.dropped, asked.message.in_sync) == ("s1", False)
    seen = scene.see(
        NOW + 3.1, engine=LOST, probe=ProbeView(NOW + 2.0, NOW + 2.9), **heard(NOW, dropping="s1")
    )
    assert (seen.role, seen.code) == (Role.WAITING, "PeerUnknown")
    again = scene.see(NOW + 3.2, engine=replace(IN_SYNC, stream="s2"), **heard(NOW + 3.2, stream="s2"))
    assert again.role is Role.SECONDARY


def test_a_primary_heard_alone_on_another_stream_ends_the_fitness() -> None:
    scene = Scene()
    assert not scene.see(NOW, engine=LOST, **heard(NOW, alone=True, stream=None)).message.in_sync


def test_a_primary_that_came_back_without_serving_is_replaced_at_once() -> None:
    seen = Scene().see(NOW, engine=LOST, **heard(NOW, serving=False, stream=None, role="Waiting"))
    assert seen.effects == (StopSecondary(),)
    assert seen.reason == "A was in sync and b no longer serves: taking over"


@pytest.mark.parametrize("leaving", [False, True])
def test_takes_over_what_is_handed_over(leaving: bool) -> None:
    record = replace(RECORD, token="t1")
    words = says(serving=False, handed_over="t1", token="t1", leaving=leaving, stream=None)
    scene = Scene()
    seen = scene.see(NOW, engine=LOST, record=record, **heard(NOW, words))
    assert (seen.effects, seen.reason) == ((StopSecondary(),), "b handed over: taking over")
    then = scene.see(NOW + 0.1, record=record, **heard(NOW, words))
    assert then.effects == (StartPrimary(alone=leaving),)


def test_a_promotion_is_taken_back_when_the_primary_is_heard_in_time() -> None:
    scene = lost(3.0, probe=ProbeView(NOW + 1.9, NOW + 2.8))
    seen = scene.see(NOW + 3.1, engine=LOST, **heard(NOW + 3.05))
    assert (seen.code, seen.reason) == ("PromotionAbandoned", "b is heard again: not taking over")


def test_a_freeze_in_the_middle_of_a_promotion_begins_anew() -> None:
    scene = lost(3.0, probe=ProbeView(NOW + 1.9, NOW + 2.8))
    seen = scene.jump(NOW + 20.0, **heard(NOW))
    assert seen.code == "PromotionAbandoned"
    assert not any(isinstance(effect, StartPrimary) for effect in seen.effects)


def test_a_short_freeze_while_the_primary_is_gone_does_not_make_the_window_pass() -> None:
    """With a detection timeout of a second a busy machine may well hold the process up for a quarter of one."""
    scene = Scene()
    scene.see(NOW, engine=IN_SYNC, **heard(NOW))
    seen = scene.jump(NOW + 1.9, engine=LOST, **heard(NOW))
    assert seen.state.woke_at == NOW + 1.9
    asks = scene.see(NOW + 3.4, engine=LOST, **heard(NOW))
    assert asks.effects == (ProbeVip(),)
    seen = scene.see(NOW + 4.1, engine=LOST, probe=ProbeView(NOW + 3.4, NOW + 4.0), **heard(NOW))
    assert seen.code == "PeerLost"


def test_a_stopped_secondary_stays_fit_though_the_peers_newest_word_is_older_than_its_stream() -> None:
    """Only the stream is left: the peer's last heartbeat is from the time when it was alone."""
    old = heard(NOW - 5.0, alone=True, stream="s0")
    scene = Scene(persisted=Persisted(stopped=True))
    stopped = scene.see(NOW, engine=replace(IN_SYNC, heard_at=NOW), **old)
    assert stopped.effects[-1] == StopSecondary()
    assert scene.state.kept == "s1"
    silent = scene.see(NOW + 0.1, **old)
    assert not silent.message.in_sync
    rebooted = says(serving=False, claiming=False, alone=False, stream=None)
    assert scene.see(NOW + 1.0, **heard(NOW + 1.0, rebooted)).message.in_sync


def test_gives_up_taking_over_when_a_resynchronisation_began_before_its_secondary_had_stopped() -> None:
    scene = lost(3.0, probe=ProbeView(NOW + 1.9, NOW + 2.8))
    assert scene.last is not None
    assert scene.last.effects == (StopSecondary(),)
    mixed = replace(RECORD, consistent=False)
    seen = scene.see(
        NOW + 3.05, engine=EngineView(), record=mixed, outcomes=(Outcome(StopSecondary(), True),)
    )
    assert StartPrimary(alone=True) not in seen.effects
    assert (seen.code, seen.role) == ("PromotionAbandoned", Role.SYNCING)
    assert not seen.message.in_sync
