"""A serving node: leases, freezes, a silent or a dropped peer."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.role.scene import FOLLOWING, PRIMARY, RECORD, SERVING, START, Scene, T, heard
from twinhull_sidecar.role.model import (
    AbortPrimary,
    EngineView,
    Fence,
    GoAlone,
    KillApplication,
    Phase,
    ProbeView,
    ProbeVip,
    RenewLease,
    Role,
    WithdrawVip,
    WorkloadView,
)

NOW = START + 10.0
DOWN = replace(SERVING, connected=False, in_sync=False, disconnected_at=NOW)


def test_renews_its_lease_and_says_why_it_is_content() -> None:
    scene = Scene().serving()
    assert scene.last is not None
    assert scene.last.effects == (RenewLease(NOW + 1.5),)
    assert (scene.last.role, scene.last.code) == (Role.PRIMARY, "InSync")
    assert scene.last.reason == "Serving; b holds every acknowledged write"


def test_a_lost_stream_makes_writes_wait() -> None:
    seen = Scene().serving().see(NOW + 1.0, **{**PRIMARY, "engine": DOWN}, **heard(NOW + 1.0, FOLLOWING))
    assert (seen.code, seen.effects) == ("StreamLost", (RenewLease(NOW + 2.5),))
    assert seen.reason == "Writes wait: the replication stream to b has been down for 1.0 s"


def test_a_heard_peer_is_asked_for_its_promise_before_going_alone() -> None:
    scene = Scene().serving()
    down = {**PRIMARY, "engine": DOWN}
    asked = scene.see(NOW + 3.1, **down, **heard(NOW + 3.1, FOLLOWING))
    assert (asked.code, asked.message.dropping) == ("DroppingPeer", "s1")
    assert GoAlone("s1") not in asked.effects
    promised = scene.see(
        NOW + 3.2, **down, **heard(NOW + 3.2, replace(FOLLOWING, in_sync=False, dropped="s1"))
    )
    assert promised.effects[-1] == GoAlone("s1")
    assert promised.reason == "b promised not to be promoted (its replication stream is down): going on alone"


def test_a_promise_for_another_stream_does_not_count() -> None:
    scene = Scene().serving()
    down = {**PRIMARY, "engine": DOWN}
    seen = scene.see(NOW + 3.1, **down, **heard(NOW + 3.1, replace(FOLLOWING, dropped="s0")))
    assert seen.code == "DroppingPeer"


def test_a_silent_peer_is_waited_for_longer_than_its_own_timeout() -> None:
    scene = Scene().serving()
    down = {**PRIMARY, "engine": DOWN}
    early = scene.see(NOW + 4.4, **down, **heard(NOW, FOLLOWING))
    assert early.code == "WaitingForPeer"
    assert "this node goes on alone after 4.5 s" in early.reason
    late = scene.see(NOW + 4.5, **down, **heard(NOW, FOLLOWING))
    assert late.effects[-1] == GoAlone("s1")
    assert late.reason == "b has been silent on every link for 4.5 s: going on alone"


def test_a_given_away_address_is_not_taken_back_blindly_from_a_silent_peer() -> None:
    scene = Scene().serving()
    given = {**PRIMARY, "engine": DOWN, "vip_held": False, "workload": WorkloadView(Phase.HELD, 1)}
    early = scene.see(NOW + 2.0, **given, **heard(NOW, FOLLOWING))
    assert early.effects == (RenewLease(NOW + 3.5, writes_until=NOW - 0.2 + T),)
    assert early.reason == "Writes wait: b has been silent for 2.0 s and may have taken the virtual address"
    assert ProbeVip() in scene.see(NOW + 3.7, **given, **heard(NOW, FOLLOWING)).effects
    taken = ProbeView(NOW + 3.7, NOW + 4.2, taken=("192.0.2.1",))
    gives_up = scene.see(NOW + 4.3, **given, probe=taken, **heard(NOW, FOLLOWING))
    assert (gives_up.code, gives_up.state.serving) == ("VipTaken", False)


def test_a_peer_that_left_is_not_waited_for() -> None:
    left = replace(FOLLOWING, in_sync=False, leaving=True)
    seen = Scene().serving().see(NOW + 0.5, **{**PRIMARY, "engine": DOWN}, **heard(NOW + 0.5, left))
    assert (seen.code, seen.effects[-1]) == ("PeerLeft", GoAlone("s1"))


def test_a_stuck_secondary_is_dropped() -> None:
    stuck = replace(SERVING, in_sync=False, oldest_wait=3.2)
    seen = Scene().serving().see(NOW + 0.1, **{**PRIMARY, "engine": stuck}, **heard(NOW + 0.1, FOLLOWING))
    assert seen.code == "DroppingPeer"


def test_a_freeze_fences_until_the_peer_answers() -> None:
    scene = Scene().serving()
    woke = scene.jump(NOW + 2.0, **PRIMARY, **heard(NOW + 1.9, FOLLOWING))
    assert (woke.effects, woke.code) == ((Fence(),), "Fenced")
    assert woke.reason == "Fenced: this node stood still for 2.0 s and asks b whether it took over"
    stale = scene.see(NOW + 2.1, **PRIMARY, **heard(NOW + 2.1, FOLLOWING))
    assert stale.code == "Fenced", "a datagram that echoes one from before the freeze proves nothing"
    fresh = scene.see(NOW + 2.5, **PRIMARY, **heard(NOW + 2.5, FOLLOWING))
    assert fresh.effects == (RenewLease(NOW + 4.0),)


def test_after_a_freeze_the_peer_that_took_over_keeps_the_role() -> None:
    scene = Scene().serving()
    scene.jump(NOW + 9.0, **PRIMARY, **heard(NOW, FOLLOWING))
    took = replace(FOLLOWING, serving=True, alone=True, in_sync=False, stream=None)
    seen = scene.see(NOW + 9.5, **PRIMARY, **heard(NOW + 9.5, took))
    assert seen.effects == (Fence(), KillApplication(), WithdrawVip())
    assert seen.reason == "b took over with the same data"
    assert not seen.state.serving
    then = scene.see(NOW + 9.6, engine=SERVING, **heard(NOW + 9.6, took))
    assert then.effects == (Fence(), AbortPrimary())


def test_a_long_freeze_without_an_answer_ends_in_waiting() -> None:
    scene = Scene().serving()
    scene.jump(NOW + 9.0, **PRIMARY, **heard(NOW, FOLLOWING))
    seen = scene.see(NOW + 12.1, **PRIMARY, **heard(NOW, FOLLOWING))
    assert (seen.code, seen.role) == ("FrozenTooLong", Role.WAITING)
    assert "may have taken over meanwhile" in seen.reason


def test_alone_a_freeze_ends_with_a_probe_of_the_address() -> None:
    scene = Scene().serving()
    alone = {
        "engine": EngineView(mode="primary", alone=True),
        "record": replace(RECORD, alone=True),
        "workload": WorkloadView(Phase.HELD, 1),
    }
    scene.jump(NOW + 9.0, **alone, **heard(NOW, FOLLOWING))
    asks = scene.see(NOW + 12.1, **alone, **heard(NOW, FOLLOWING))
    assert asks.effects == (Fence(), ProbeVip())
    free = scene.see(NOW + 13.0, **alone, probe=ProbeView(NOW + 12.1, NOW + 12.9), **heard(NOW, FOLLOWING))
    assert free.code == "ServingAlone"


def test_a_peer_that_ran_alone_meanwhile_is_to_serve_even_if_it_leaves() -> None:
    scene = Scene().serving()
    scene.jump(NOW + 9.0, **PRIMARY, **heard(NOW, FOLLOWING))
    left = replace(FOLLOWING, in_sync=False, alone=True, leaving=True, generation="g2", history=("g1",))
    seen = scene.see(NOW + 9.5, **PRIMARY, **heard(NOW + 9.5, left))
    assert (seen.code, seen.state.serving) == ("PeerIsAhead", False)
