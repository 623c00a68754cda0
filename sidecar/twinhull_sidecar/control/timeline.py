"""When the steps of the last promotion happened, in Unix seconds: what one asks after a failover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from twinhull_sidecar.role.model import (
    HoldVip,
    Observation,
    Outcome,
    ProbeView,
    Promotion,
    StartApplication,
    StartPrimary,
)

#: An application that writes nothing of its own accord shall not keep the takeover from being reported.
FIRST_WRITE_PATIENCE = 5.0


@dataclass(frozen=True)
class Timeline:
    """0: not reached (yet), or not on the way. ``code`` says the cause in one stable word.

    ``lease_over``: from then on the lost primary acknowledges nothing. ``recorded``: this node's durable record says
    that it is primary, and that the peer is outdated where it starts alone. ``promoted``: the volumes are mounted and
    may be written. ``first_write``: the first change that was acknowledged to the application.
    """

    cause: str = ""
    peer_lost: float = 0.0
    detected: float = 0.0
    promoted: float = 0.0
    vip_announced: float = 0.0
    application_started: float = 0.0
    application_ready: float = 0.0
    code: str = ""
    lease_over: float = 0.0
    vip_probed: float = 0.0
    recorded: float = 0.0
    first_write: float = 0.0


#: The steps in the order in which they happen, as the event names them.
STEPS = (
    ("lease_over", "peer's lease over"),
    ("vip_probed", "virtual IP probed"),
    ("detected", "detected"),
    ("recorded", "recorded"),
    ("promoted", "volumes mounted"),
    ("vip_announced", "virtual IP announced"),
    ("application_started", "application started"),
    ("application_ready", "application ready"),
    ("first_write", "first write acknowledged"),
)


def sentence(line: Timeline) -> str:
    """All steps reached, in seconds since the peer's last sign of life, else since the decision."""
    start = line.peer_lost or line.detected
    times = [(words, max(0.0, at - start)) for name, words in STEPS if (at := getattr(line, name))]
    origin = "the peer's last sign of life" if line.peer_lost else "the decision"
    steps = ", ".join(f"{words} {seconds:.3f}" for words, seconds in times)
    return f"Took over ({line.code}); seconds since {origin}: {steps}"


class TimelineKeeper:
    """Follows one promotion after the other; ``current`` is the last one, None before the first.

    ``has_vip``, ``has_application``: what the last step is. ``wall`` is the clock of the figures, ``monotonic``
    (CLOCK_BOOTTIME) that of everything which is observed.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        *,
        has_vip: bool = True,
        has_application: bool = True,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._has_vip = has_vip
        self._has_application = has_application
        self._since: float | None = None
        self._reported = True
        self.current: Timeline | None = None

    def decided(
        self,
        promotion: Promotion | None,
        heard_at: float | None,
        peers_lease: float | None = None,
        probe: ProbeView | None = None,
    ) -> None:
        """The decision's promotion now, and when the peer was heard last (CLOCK_BOOTTIME).

        ``peers_lease``: for how many seconds after its last sign of life the peer may have acknowledged.
        """
        if promotion is None or promotion.since == self._since:
            return
        self._since = promotion.since
        self._reported = False
        silent = promotion.by_silence and heard_at is not None
        over = self._to_wall(heard_at + peers_lease) if silent and heard_at and peers_lease else 0.0
        probed = probe.finished_at if probe is not None and promotion.by_silence else None
        self.current = Timeline(
            cause=promotion.cause,
            peer_lost=0.0 if heard_at is None else self._to_wall(heard_at),
            detected=self._to_wall(promotion.since),
            code=promotion.code,
            lease_over=over,
            vip_probed=0.0 if probed is None else self._to_wall(probed),
        )

    def ended(self, outcome: Outcome, announced_at: float | None) -> None:
        """An effect ended; ``announced_at``: when the first announcement of the address went out."""
        if self.current is None or not outcome.ok:
            return
        now = self._wall()
        match outcome.effect:
            case StartPrimary():
                self.current = replace(self.current, promoted=now)
            # Held anew after a lapse: clients found their way with the first announcement.
            case HoldVip() if not self.current.vip_announced:
                announced = now if announced_at is None else self._to_wall(announced_at)
                self.current = replace(self.current, vip_announced=announced)
            case StartApplication() if not self.current.application_started:
                self.current = replace(self.current, application_started=now)

    def observed(self, seen: Observation) -> None:
        """What only the engine knows the moment of."""
        current, engine = self.current, seen.engine
        if current is None or self._since is None or engine.mode != "primary":
            return
        # The figures of an earlier mount, before the hand-over, are none of this promotion's.
        recorded, changed = engine.recorded_at, engine.first_change_at
        if not current.recorded and recorded is not None and recorded >= self._since:
            current = replace(current, recorded=self._to_wall(recorded))
        if not current.first_write and changed is not None and changed >= self._since:
            current = replace(current, first_write=self._to_wall(changed))
        self.current = current

    def ready(self) -> None:
        """The application is ready."""
        if self.current is not None and not self.current.application_ready:
            self.current = replace(self.current, application_ready=self._wall())

    def report(self) -> str | None:
        """The whole takeover as a sentence, once, when its last step is done."""
        line = self.current
        if line is None or self._reported:
            return None
        announced = line.vip_announced or not self._has_vip
        ready = line.application_ready or not self._has_application
        if not (line.promoted and announced and ready):
            return None
        last = max(line.promoted, line.vip_announced, line.application_ready)
        if not line.first_write and 0 <= self._wall() - last < FIRST_WRITE_PATIENCE:
            return None
        self._reported = True
        return sentence(line)

    def _to_wall(self, moment: float) -> float:
        return self._wall() - (self._monotonic() - moment)
