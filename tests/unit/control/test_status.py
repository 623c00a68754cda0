"""The status shows what the engine and the decision say, whatever more the engine tells."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.control.doubles import EngineDouble, module
from twinhull_sidecar.config import ConfigError, VirtualIP
from twinhull_sidecar.control import observe, status
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.ctl import describe
from twinhull_sidecar.role.decide import begin, decide
from twinhull_sidecar.role.model import HoldVip, LinkView, Observation, Outcome, Persisted, Record
from twinhull_sidecar.vip import AddressState


def snapshot() -> status.Snapshot:
    config = module()
    engine = EngineDouble().values | {
        "mode": "secondary",
        "progress": {
            "bytes_done": 1,
            "bytes_total": 2,
            "files_done": 3,
            "files_total": 4,
            "bytes_sent": 5,
            "seconds_left": None,
        },
        "applied": 7,
    }
    seen = Observation(
        now=100.0,
        record=Record(fresh=False, generation="g7"),
        engine=observe.engine_view(engine, 100.0),
        links=(LinkView("lan", 99.5, 41), LinkView("direct", None)),
    )
    decision = decide(begin(observe.settings(config, "a"), 90.0, Persisted()), seen)
    return status.Snapshot(
        config=config,
        node="a",
        incarnation="i",
        observation=seen,
        decision=decision,
        engine=engine,
        ready=False,
        virtual_ips=(AddressState("10.0.0.9", "eth0", False, "no carrier"),),
        events=EventLog(),
        last_order=None,
        checks=(),
        timeline=None,
        problems=(),
    )


def test_what_is_shown() -> None:
    built = status.build(snapshot())
    assert (built.module, built.node, built.peer.node, built.generation) == ("shop/orders", "a", "b", "g7")
    assert (built.sync.bytes_done, built.sync.files_total) == (1, 4)
    assert not built.sync.HasField("seconds_left")
    assert built.replicated_operations == 7
    assert [(link.name, link.up) for link in built.peer.links] == [("lan", True), ("direct", False)]
    assert [link.heartbeats for link in built.peer.links] == [41, 0]
    assert built.virtual_ips[0].problem == "no carrier"
    text = "\n".join(describe(built))
    assert "1 of 2 bytes, 3 of 4 files" in text
    assert "virtual IP   10.0.0.9 not held here: no carrier" in text


def test_the_passing_of_time_alone_is_no_change() -> None:
    shot = snapshot()
    later = replace(shot, observation=replace(shot.observation, now=100.3))
    assert status.essence(shot) == status.essence(later)
    gone = replace(shot, observation=replace(shot.observation, now=110.0))
    assert status.essence(shot) != status.essence(gone)


def test_an_address_that_another_station_has_is_reported_under_its_own_field() -> None:
    addresses = tuple(VirtualIP(address) for address in ("10.0.0.9", "FD00::9", "10.0.0.10"))
    config = module(virtual_ips=addresses)
    seen = snapshot().observation
    state = begin(observe.settings(config, "a"), 90.0, Persisted())
    message = "another station on the LAN has 10.0.0.10, fd00::9; remove it there, or give the module another"
    failed = Outcome(HoldVip(), ok=False, message=message, taken=("10.0.0.10", "fd00::9"))
    decision = decide(state, replace(seen, outcomes=(failed,)))
    assert [(each.field, each.message) for each in status.problems(config, seen, decision)] == [
        ("virtual_ips[1].address", "another station on the LAN has FD00::9"),
        ("virtual_ips[2].address", "another station on the LAN has 10.0.0.10"),
    ]
    # Another trouble stays one of the effect; a success ends both.
    decision = decide(decision.state, replace(seen, outcomes=(Outcome(HoldVip(), ok=False, message="no"),)))
    [other] = status.problems(config, seen, decision)
    assert (other.field, other.message) == ("effect", "HoldVip failed: no")
    decision = decide(decision.state, replace(seen, outcomes=(Outcome(HoldVip()),)))
    assert status.problems(config, seen, decision) == []


def test_a_refusal_names_field_and_mend() -> None:
    problem = status.Problem.of(ConfigError("ports.grpc", "is in use", "give another"))
    built = status.refused("a", module(), EventLog(), problem)
    assert built.reason == "refused: ports.grpc: is in use; give another"
    assert "problem      ports.grpc: is in use; give another" in describe(built)
