"""Administrator's orders, hand-over and leave."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.role.scene import FOLLOWING, IN_SYNC, PRIMARY, RECORD, SERVING, START, Scene, heard, says
from twinhull_sidecar.role.model import (
    Action,
    EngineView,
    Exit,
    Order,
    Outcome,
    Persist,
    Persisted,
    Phase,
    RenewLease,
    Role,
    StartPrimary,
    StartSecondary,
    StopApplication,
    StopPrimary,
    StopSecondary,
    Verify,
    WithdrawVip,
    WorkloadView,
)

NOW = START + 10.0
SWITCH = Order("o1", Action.SWITCHOVER)


def handing() -> Scene:
    """A primary that was told to switch over, with the application and the address gone already."""
    scene = Scene().serving()
    scene.see(NOW + 0.1, **PRIMARY, orders=(SWITCH,), **heard(NOW + 0.1, FOLLOWING))
    return scene


def test_switchover_withdraws_the_address_first() -> None:
    scene = handing()
    assert scene.last is not None
    assert scene.last.effects == (RenewLease(NOW + 1.6), WithdrawVip())
    assert scene.last.answers[0].message == "Handing over to b"
    assert scene.last.message.serving
    held = {**PRIMARY, "vip_held": False}
    assert scene.see(NOW + 0.2, **held, **heard(NOW + 0.2, FOLLOWING)).effects[-1] == StopApplication(
        grace=30.0
    )
    held["workload"] = WorkloadView(Phase.HELD, 1)
    assert scene.see(NOW + 0.3, **held, **heard(NOW + 0.3, FOLLOWING)).effects[-1] == StopPrimary(timeout=3.0)


def test_a_clean_hand_over_names_its_token_and_follows() -> None:
    scene = handing()
    clean = Outcome(StopPrimary(3.0), clean=True, token="t1")
    seen = scene.see(
        NOW + 0.5, record=replace(RECORD, token="t1"), outcomes=(clean,), **heard(NOW + 0.5, FOLLOWING)
    )
    assert (seen.message.handed_over, seen.message.serving) == ("t1", False)
    assert seen.effects == (StartSecondary(),)
    done = scene.see(NOW + 0.9, record=replace(RECORD, token="t1"), **heard(NOW + 0.9, says(stream=None)))
    assert (done.answers[0].order, done.answers[0].state, done.answers[0].message) == (
        "o1",
        "done",
        "b serves",
    )


def test_an_unclean_hand_over_goes_back_to_serving() -> None:
    scene = handing()
    seen = scene.see(NOW + 3.5, outcomes=(Outcome(StopPrimary(3.0)),), **heard(NOW + 3.4, FOLLOWING))
    assert seen.code == "HandOverFailed"
    assert seen.effects == (StartPrimary(alone=False),)
    assert seen.answers[0].state == "failed"


def test_after_handing_over_it_takes_back_what_nobody_took() -> None:
    scene = handing()
    token = replace(RECORD, token="t1")
    clean = Outcome(StopPrimary(3.0), clean=True, token="t1")
    scene.see(NOW + 0.5, record=token, outcomes=(clean,), **heard(NOW + 0.5, FOLLOWING))
    idle = replace(FOLLOWING, in_sync=False, app_failed=True, stream=None, token="t1")
    seen = scene.see(NOW + 7.0, record=token, engine=EngineView(mode="secondary"), **heard(NOW + 7.0, idle))
    assert seen.reason == "Both hold the same data and a is preferred: asking b to stay aside"


def test_switchover_is_refused_with_the_reason() -> None:
    cases = {
        "b is not in sync": replace(FOLLOWING, in_sync=False),
        "the application failed too often on b": replace(FOLLOWING, app_failed=True),
        "b is leaving": replace(FOLLOWING, leaving=True),
    }
    for why, message in cases.items():
        seen = Scene().serving().see(NOW + 0.1, **PRIMARY, orders=(SWITCH,), **heard(NOW + 0.1, message))
        assert (seen.answers[0].state, seen.answers[0].message) == ("failed", f"Cannot switch over: {why}")


def test_switchover_on_the_secondary_names_the_place_to_order_it() -> None:
    seen = Scene().see(NOW, engine=IN_SYNC, orders=(SWITCH,), **heard(NOW))
    assert seen.answers[0].message.endswith("order switchover on the primary's node")


def test_stop_is_durable_and_reaches_both() -> None:
    scene = Scene().serving()
    stop = Order("o2", Action.STOP)
    asked = scene.see(NOW + 0.1, **PRIMARY, orders=(stop,), **heard(NOW + 0.1, FOLLOWING))
    assert asked.effects[-1] == Persist(Persisted(intent=1, stopped=True))
    kept = Outcome(Persist(Persisted(intent=1, stopped=True)))
    then = scene.see(NOW + 0.2, **PRIMARY, outcomes=(kept,), **heard(NOW + 0.2, FOLLOWING))
    assert (then.reason, then.effects[-1]) == ("Stopping the module by order", WithdrawVip())
    assert (then.message.intent, then.message.stopped) == (1, True)


def test_the_secondary_stops_after_the_primary() -> None:
    scene = Scene(persisted=Persisted(intent=1, stopped=True))
    first = scene.see(NOW, engine=IN_SYNC, **heard(NOW, says(intent=1, stopped=True)))
    assert first.effects == ()
    ended = says(serving=False, intent=1, stopped=True)
    assert scene.see(NOW + 0.1, engine=IN_SYNC, **heard(NOW + 0.1, ended)).effects == (StopSecondary(),)
    assert scene.see(NOW + 0.2, **heard(NOW + 0.2, ended)).role is Role.STOPPED


def test_force_primary_is_refused_while_the_peer_serves() -> None:
    seen = Scene().see(NOW, orders=(Order("o3", Action.FORCE_PRIMARY),), **heard(NOW))
    assert (seen.answers[0].state, seen.answers[0].message) == ("failed", "b serves")


def test_force_primary_is_refused_while_newer_data_is_heard() -> None:
    newer = says(serving=False, generation="g2", history=("g1",))
    seen = Scene().see(NOW, orders=(Order("o3", Action.FORCE_PRIMARY),), **heard(NOW, newer))
    assert seen.answers[0].message == "b is heard and holds newer data: it starts by itself"


def test_a_forced_start_ends_when_newer_data_is_heard_after_all() -> None:
    scene = Scene()
    scene.see(START + 5.0, orders=(Order("o3", Action.FORCE_PRIMARY),))
    newer = says(serving=False, generation="g2", history=("g1",))
    seen = scene.see(START + 5.1, **heard(START + 5.1, newer))
    assert (seen.code, seen.answers[0].state) == ("PromotionAbandoned", "failed")


def test_force_primary_starts_a_waiting_node() -> None:
    seen = Scene().see(START + 5.0, orders=(Order("o3", Action.FORCE_PRIMARY),))
    assert seen.effects == (StartPrimary(alone=True),)
    assert seen.reason == "An administrator forced a to serve, b is not heard: starting alone"


def test_a_leaving_secondary_says_so_and_goes() -> None:
    scene = Scene()
    stops = scene.see(NOW, engine=IN_SYNC, terminating=True, **heard(NOW))
    assert stops.effects == (StopSecondary(),)
    tells = scene.see(NOW + 0.1, terminating=True, **heard(NOW + 0.1))
    assert tells.message.leaving
    noted = says(heard_ask=tells.message.ask)
    assert scene.see(NOW + 0.2, terminating=True, **heard(NOW + 0.2, noted)).effects == (Exit(),)


def test_a_leaving_primary_hands_over() -> None:
    seen = Scene().serving().see(NOW + 0.1, **PRIMARY, terminating=True, **heard(NOW + 0.1, FOLLOWING))
    assert (seen.reason, seen.effects[-1]) == ("This node leaves: handing over to b", WithdrawVip())


def test_a_leaving_primary_without_a_secondary_stops_in_order() -> None:
    scene = Scene().serving()
    alone = {
        **PRIMARY,
        "engine": replace(SERVING, connected=False, in_sync=False),
        "record": replace(RECORD, alone=True),
    }
    seen = scene.see(NOW + 5.0, **alone, terminating=True, **heard(NOW, FOLLOWING))
    assert seen.reason.startswith(
        "This node leaves and cannot hand over: no heartbeat of b has come for 5.0 s"
    )


def test_a_comparison_begins_once_and_only_where_there_is_something_to_compare() -> None:
    scene = Scene().serving()
    order = Order("v1", Action.REPAIR)
    taken = scene.see(NOW + 0.1, **PRIMARY, orders=(order,), **heard(NOW + 0.1, FOLLOWING))
    assert [answer.state for answer in taken.answers] == ["done"]
    assert Verify(repair=True) in taken.effects
    again = scene.see(
        NOW + 0.2, **PRIMARY, orders=(Order("v2", Action.VERIFY),), **heard(NOW + 0.2, FOLLOWING)
    )
    assert (again.answers[0].state, again.answers[0].message) == (
        "failed",
        "A comparison is under way already",
    )
    done = Outcome(Verify(repair=True))
    after = scene.see(NOW + 0.3, **PRIMARY, outcomes=(done,), **heard(NOW + 0.3, FOLLOWING))
    assert not any(isinstance(effect, Verify) for effect in after.effects)


def test_a_node_that_follows_does_not_compare() -> None:
    scene = Scene()
    refused = scene.see(NOW, orders=(Order("v1", Action.VERIFY),))
    assert refused.answers[0].state == "failed"
    assert "on the primary's node" in refused.answers[0].message
