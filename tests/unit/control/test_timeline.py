"""The steps of a takeover: each is taken from whoever knows its moment, and told once when the last is done."""

from __future__ import annotations

import pytest

from twinhull_sidecar.control.timeline import FIRST_WRITE_PATIENCE, TimelineKeeper
from twinhull_sidecar.role.model import (
    EngineView,
    HoldVip,
    Observation,
    Outcome,
    ProbeView,
    Promotion,
    Record,
    StartApplication,
    StartPrimary,
)

#: Wall clock minus boot time.
OFFSET = 900.0
SILENCE = Promotion(since=49.0, alone=True, cause="a is silent", code="PeerLost", by_silence=True)


class Clock:
    def __init__(self) -> None:
        self.now = 49.0

    def wall(self) -> float:
        return self.now + OFFSET

    def monotonic(self) -> float:
        return self.now

    def keeper(self, **more: bool) -> TimelineKeeper:
        return TimelineKeeper(self.wall, self.monotonic, **more)


def engine(**more: float) -> Observation:
    return Observation(now=0.0, record=Record(), engine=EngineView(mode="primary", **more))  # type: ignore[arg-type]


def test_a_takeover_by_silence_is_told_with_all_its_steps() -> None:
    clock = Clock()
    keeper = clock.keeper()
    keeper.decided(SILENCE, 46.0, peers_lease=2.0, probe=ProbeView(47.8, 48.4))
    assert keeper.report() is None
    clock.now = 49.1
    keeper.ended(Outcome(StartPrimary(alone=True)), None)
    keeper.observed(engine(recorded_at=49.05))
    clock.now = 49.2
    keeper.ended(Outcome(HoldVip()), 49.15)
    clock.now = 49.3
    keeper.ended(Outcome(StartApplication(1)), 49.15)
    keeper.ready()
    assert keeper.report() is None, "the first write may follow at once"
    keeper.observed(engine(recorded_at=49.05, first_change_at=49.5))
    assert keeper.report() == (
        "Took over (PeerLost); seconds since the peer's last sign of life: peer's lease over 2.000, virtual IP probed "
        "2.400, detected 3.000, recorded 3.050, volumes mounted 3.100, virtual IP announced 3.150, application started "
        "3.300, application ready 3.300, first write acknowledged 3.500"
    )
    assert keeper.report() is None, "it is told once"
    assert keeper.current is not None
    assert keeper.current.first_write == pytest.approx(49.5 + OFFSET)


def test_an_application_that_writes_nothing_does_not_keep_the_takeover_from_being_told() -> None:
    clock = Clock()
    keeper = clock.keeper(has_vip=False)
    keeper.decided(SILENCE, 46.0)
    keeper.ended(Outcome(StartPrimary(alone=True)), None)
    keeper.ended(Outcome(StartApplication(1)), None)
    keeper.ready()
    assert keeper.report() is None
    clock.now += FIRST_WRITE_PATIENCE
    told = keeper.report()
    assert told is not None
    assert "first write" not in told


def test_what_an_earlier_mount_wrote_is_not_this_takeovers_first_write() -> None:
    keeper = Clock().keeper()
    keeper.decided(SILENCE, 46.0)
    keeper.observed(engine(recorded_at=10.0, first_change_at=11.0))
    assert keeper.current is not None
    assert (keeper.current.recorded, keeper.current.first_write) == (0.0, 0.0)


def test_an_orderly_change_waits_for_no_lease() -> None:
    keeper = Clock().keeper(has_vip=False, has_application=False)
    promotion = Promotion(since=49.0, alone=False, cause="a handed over: taking over", code="HandedOver")
    keeper.decided(promotion, 48.9, peers_lease=2.0, probe=ProbeView(40.0, 40.5))
    assert keeper.current is not None
    assert (keeper.current.lease_over, keeper.current.vip_probed) == (0.0, 0.0)


def test_an_address_that_is_held_anew_later_does_not_move_the_step() -> None:
    clock = Clock()
    keeper = clock.keeper()
    keeper.decided(SILENCE, 46.0)
    keeper.ended(Outcome(HoldVip()), 49.1)
    clock.now = 60.0
    keeper.ended(Outcome(HoldVip()), 60.0)
    assert keeper.current is not None
    assert keeper.current.vip_announced == pytest.approx(49.1 + OFFSET)
