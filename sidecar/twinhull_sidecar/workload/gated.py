"""An application run by gates: one or more containers, each under its own gate.

Level-triggered: every report of a gate, and every call of the role logic, leads to :meth:`_reconcile`, which
compares what the gate does with what is wanted and sends the order that is missing. So it does not matter in
which order gates, sidecar and orders come and go.

Orders carry an epoch of this module's own, taken from CLOCK_BOOTTIME: it grows over restarts of the sidecar
without being stored anywhere, and a gate never starts twice in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twinhull_sidecar.workload.adapter import OnChange, Phase, WorkloadError, WorkloadState
from twinhull_sidecar.workload.gate_server import GateServer
from twinhull_sidecar.workload.lease_protocol import Hello, Report, encode_run, encode_stop
from twinhull_sidecar.workload.signals import signal_name

log = logging.getLogger(__name__)

#: How long ``start`` waits for connected gates to say that they have started.
START_PATIENCE = 5.0
#: Time a gate that cannot be heard has, after its lease, to kill what it runs.
KILL_MARGIN = 0.5
#: How often a stop that does not come to its end is complained about.
GONE_PATIENCE = 5.0
#: Grace for an application that an earlier sidecar left running.
LEFTOVER_GRACE = 30.0


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds, the clock of all leases."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Launch:
    """How one container's application is started. ``argv`` None: the container's own command."""

    argv: tuple[str, ...] | None = None
    stop_signal: int | None = None


@dataclass
class Gate:
    """What is known of one container's gate."""

    name: str
    hello: Hello | None = None
    report: Report | None = None
    connected: bool = False
    launch: Launch | None = None
    #: Epoch in which it is wanted to run; 0: none.
    grant: int = 0
    #: Highest epoch sent in a run or stop order.
    sent: int = 0
    #: End of the lease last sent.
    leased_until: float = 0.0
    #: Has reported running in ``grant``.
    ran: bool = False
    #: Has ended by itself in ``grant``.
    failed: bool = False

    def occupied(self, now: float) -> bool:
        """Whether any process of the container may exist."""
        if self.report is None:
            return now < self.leased_until + KILL_MARGIN
        unanswered = self.report.epoch < self.sent
        if self.connected:
            return self.report.occupied or (unanswered and now < self.leased_until)
        return (self.report.occupied or unanswered) and now < self.leased_until + KILL_MARGIN


@dataclass
class _Wanted:
    running: bool = False
    epoch: int = 0
    failures: int = 0
    exit: str = ""
    terminating: bool = False
    until: float = 0.0
    grace: float = LEFTOVER_GRACE
    problems: dict[str, str] = field(default_factory=dict)


class GatedWorkload:
    """Implements :class:`~twinhull_sidecar.workload.adapter.Workload` over a :class:`GateServer`."""

    def __init__(
        self,
        containers: Sequence[str],
        socket: Path,
        *,
        on_change: OnChange = lambda: None,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.on_change = on_change
        self._clock = clock
        self._gates = {name: Gate(name) for name in containers}
        self._wanted = _Wanted()
        self._shown: WorkloadState | None = None
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = GateServer(socket, self._on_hello, self._on_report, self._on_gone)

    # -- what adapters add ------------------------------------------------------------------------------

    async def _prepare(self, gate: Gate) -> Launch:
        """How to start this container. Raises WorkloadError."""
        del gate
        return Launch()

    # -- Workload ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen for gates. Raises OSError."""
        await self._server.open()

    def gathered(self) -> bool:
        """See :class:`~twinhull_sidecar.workload.adapter.Workload`."""
        return all(gate.connected and gate.report is not None for gate in self._gates.values())

    async def start(self, epoch: int) -> None:
        """See :class:`~twinhull_sidecar.workload.adapter.Workload`."""
        wanted = self._wanted
        if not wanted.running or wanted.epoch != epoch:
            wanted.failures = 0
            wanted.exit = ""
        wanted.running, wanted.epoch = True, epoch
        wanted.problems.clear()
        for gate in self._gates.values():
            report = gate.report
            runs = report is not None and report.state == "running" and report.epoch == gate.grant != 0
            if not (runs and gate.connected):
                gate.grant, gate.ran, gate.failed = 0, False, False
        await self._launch_all()
        await self._until(lambda: not self._anyone_pending(), START_PATIENCE)

    async def stop(self, grace: float) -> None:
        """See :class:`~twinhull_sidecar.workload.adapter.Workload`."""
        self._order_stop(grace)
        await self._until_gone()
        self._changed()

    def kill(self) -> None:
        """See :class:`~twinhull_sidecar.workload.adapter.Workload`."""
        self._order_stop(0.0)

    def renew(self, until: float) -> None:
        """See :class:`~twinhull_sidecar.workload.adapter.Workload`."""
        self._wanted.until = until
        for gate in self._gates.values():
            report = gate.report
            if not gate.connected or report is None:
                continue
            if report.occupied:
                # While it stops, too: only the lease keeps it alive for its grace.
                self._send_run(gate, report.epoch, first=False)
            elif self._wanted.running:
                self._reconcile(gate)

    def state(self) -> WorkloadState:
        """See :class:`~twinhull_sidecar.workload.adapter.Workload`."""
        wanted = self._wanted
        return WorkloadState(self._phase(), wanted.epoch, wanted.failures, wanted.exit, wanted.terminating)

    async def ready(self) -> bool:
        """Whether every container runs. Whether it also serves is for the checkers to say."""
        return self._phase() is Phase.RUNNING

    async def close(self) -> None:
        """Kill what runs, wait until it is gone, stop listening."""
        self.kill()
        await self._until_gone()
        await self._server.close()

    # -- events of the gates ----------------------------------------------------------------------------

    def _on_hello(self, hello: Hello) -> bool:
        gate = self._gates.get(hello.container)
        if gate is None:
            return False
        if gate.hello is not None and not gate.connected:
            # The container was restarted or its connection is new: nobody deletes the pod.
            self._wanted.terminating = False
        gate.hello, gate.connected = hello, True
        return True

    def _on_report(self, name: str, report: Report) -> None:
        gate = self._gates[name]
        gate.report = report
        if report.reason == "terminated":
            self._wanted.terminating = True
        if gate.grant and report.epoch == gate.grant:
            gate.ran |= report.state == "running"
            ended = report.state == "exited" and report.reason != "terminated"
            if ended and self._wanted.running and not gate.failed:
                self._fail(gate, _describe(name, report))
            elif report.state == "held" and self._wanted.running and gate.ran:
                # Killed by the lease: no failure of the application's.
                self._wanted.exit = f"container {name}: {report.reason}"
        elif gate.grant and gate.ran and report.epoch < gate.grant and not gate.failed:
            # A new gate that knows nothing of this epoch: the container ended and was started again.
            self._fail(gate, f"container {name} was restarted from outside")
        self._reconcile(gate)
        self._changed()

    def _on_gone(self, name: str) -> None:
        self._gates[name].connected = False
        self._changed()

    def _fail(self, gate: Gate, description: str) -> None:
        gate.failed = True
        self._wanted.failures += 1
        self._wanted.exit = description
        log.warning("application failed: %s", description)

    # -- orders -----------------------------------------------------------------------------------------

    async def _launch_all(self) -> None:
        for gate in self._gates.values():
            # An image's command cannot be merged before its gate has told the container's arguments.
            if gate.hello is not None:
                await self._launch(gate)
        self._changed()

    async def _launch(self, gate: Gate) -> None:
        try:
            gate.launch = await self._prepare(gate)
        except WorkloadError as error:
            self._wanted.problems[gate.name] = str(error)
            self._fail(gate, f"container {gate.name}: {error}")
            return
        self._wanted.problems.pop(gate.name, None)
        self._reconcile(gate)

    def _reconcile(self, gate: Gate) -> None:
        """Send this gate the order that is missing, if one is."""
        report = gate.report
        if report is None or not gate.connected:
            return
        if report.occupied:
            unwanted = not self._wanted.running or report.epoch != gate.grant
            if unwanted and report.state == "running":
                self._send_stop(gate, self._wanted.grace)
            return
        if not self._wanted.running or gate.failed or self._wanted.terminating:
            return
        if gate.launch is None:
            if gate.name not in self._wanted.problems:
                self._spawn_launch(gate)
            return
        if gate.grant and report.epoch >= gate.grant:
            return  # ran and was ended: only a new start() runs it again
        if self._wanted.until <= self._clock():
            return  # no lease yet: renew() comes back here
        if not gate.grant:
            gate.grant = max(int(self._clock() * 1000), report.epoch + 1, gate.sent + 1)
        self._send_run(gate, gate.grant, first=True)

    def _spawn_launch(self, gate: Gate) -> None:
        self._wanted.problems[gate.name] = "being prepared"
        task = asyncio.get_running_loop().create_task(self._launch(gate))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send_run(self, gate: Gate, epoch: int, *, first: bool) -> None:
        until = self._wanted.until
        ttl = until - self._clock()
        if ttl <= 0:
            return
        launch = gate.launch or Launch()
        argv = launch.argv if first else None
        line = encode_run(epoch, ttl=ttl, until=until, argv=argv, stop_signal=launch.stop_signal)
        if self._server.send(gate.name, line):
            gate.sent = max(gate.sent, epoch)
            gate.leased_until = max(gate.leased_until, until)

    def _send_stop(self, gate: Gate, grace: float) -> None:
        known = gate.report.epoch if gate.report is not None else 0
        epoch = max(known, gate.sent)
        if self._server.send(gate.name, encode_stop(epoch, grace)):
            gate.sent = epoch

    def _order_stop(self, grace: float) -> None:
        self._wanted.running = False
        self._wanted.grace = grace
        for gate in self._gates.values():
            if gate.connected and gate.occupied(self._clock()):
                self._send_stop(gate, grace)
            gate.grant = 0
        self._changed()

    # -- state ------------------------------------------------------------------------------------------

    async def _until_gone(self) -> None:
        """Wait until nothing of the application runs, and say loudly when that takes longer than any lease.

        A gate that is frozen cannot kill what it runs. Nothing here may then claim that the application has
        stopped: whoever asked has to keep the node's writes and address withdrawn.
        """
        while self._occupied():
            await self._until(lambda: not self._occupied(), GONE_PATIENCE)
            now = self._clock()
            for gate in self._gates.values():
                if gate.occupied(now) and now > gate.leased_until + KILL_MARGIN:
                    log.error(
                        "container %s: its gate does not answer; the application may still run", gate.name
                    )

    def _occupied(self) -> bool:
        now = self._clock()
        return any(gate.occupied(now) for gate in self._gates.values())

    def _anyone_pending(self) -> bool:
        """A connected gate has been told to run and has not answered yet."""
        return any(
            gate.connected and gate.report is not None and gate.report.epoch < gate.grant
            for gate in self._gates.values()
        )

    def _phase(self) -> Phase:
        if not self._wanted.running:
            return Phase.STOPPING if self._occupied() else Phase.HELD
        gates = self._gates.values()
        if any(gate.failed for gate in gates):
            return Phase.FAILED
        reports = [gate.report if gate.connected else None for gate in gates]
        if all(r is not None and r.state == "running" for r in reports):
            return Phase.RUNNING
        if any(r is not None and r.state == "stopping" for r in reports):
            return Phase.STOPPING
        lapsed = [
            gate.ran and r is not None and r.state == "held" and r.epoch == gate.grant
            for gate, r in zip(gates, reports, strict=True)
        ]
        return Phase.HELD if any(lapsed) else Phase.STARTING

    def _changed(self) -> None:
        self._moved.set()
        state = self.state()
        if state != self._shown:
            self._shown = state
            self.on_change()

    async def _until(self, condition: Callable[[], bool], patience: float | None) -> None:
        """Wait until ``condition`` holds, looking at each report, and at the clock now and then."""
        end = None if patience is None else self._clock() + patience
        while not condition() and (end is None or self._clock() < end):
            self._moved.clear()
            # Not wait_for: before Python 3.12 it may lose a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._moved.wait()


def _describe(name: str, report: Report) -> str:
    if report.reason:
        return f"container {name}: {report.reason}"
    if report.signal is not None:
        return f"container {name} was ended by {signal_name(report.signal)}"
    return f"container {name} exited with code {report.code}"
