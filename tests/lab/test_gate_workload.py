"""The workload adapters with real gates: what the role logic sees of an application."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.lab.gate_harness import Gate, gate_binary
from twinhull_sidecar.config import Container
from twinhull_sidecar.workload import Phase, Workload
from twinhull_sidecar.workload.gated import boottime
from twinhull_sidecar.workload.pod import PodWorkload
from twinhull_sidecar.workload.process import ProcessWorkload

LEASE = 1.5
SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]
Open = Callable[[Workload], Awaitable[Workload]]


@contextlib.asynccontextmanager
async def leased(workload: Workload, lease: float = LEASE) -> AsyncIterator[None]:
    """Renew as the control loop does."""

    async def renew() -> None:
        while True:
            workload.renew(boottime() + lease)
            await asyncio.sleep(lease / 5)

    workload.renew(boottime() + lease)
    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()


async def until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - what other processes do raises no event here
            await asyncio.sleep(0.01)


async def phase(workload: Workload, wanted: Phase, timeout: float = 5.0) -> None:
    end = time.monotonic() + timeout
    while workload.state().phase is not wanted:
        assert time.monotonic() < end, f"not {wanted} within {timeout} s: {workload.state()}"
        await asyncio.sleep(0.01)


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    workloads: list[Workload] = []

    async def run(workload: Workload) -> Workload:
        workloads.append(workload)
        await workload.open()
        return workload

    yield run
    for workload in workloads:
        await workload.close()


def process(*argv: str, **more: object) -> ProcessWorkload:
    return ProcessWorkload(argv, gate_binary(), **more)  # type: ignore[arg-type]


async def test_a_process_starts_only_with_a_lease_and_stops_in_order(opened: Open, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"trap 'echo end >> {out}; exit 0' TERM; echo begin >> {out}; while :; do sleep 0.05; done"
    changes: list[Phase] = []
    workload = process("bash", "-c", script)
    workload.on_change = lambda: changes.append(workload.state().phase)
    await opened(workload)
    assert workload.state().phase is Phase.HELD
    changes.clear()
    await workload.start(1)
    assert workload.state().phase is Phase.STARTING
    assert not out.exists()
    async with leased(workload):
        await phase(workload, Phase.RUNNING)
        assert await workload.ready()
        await until(out.exists)
        await workload.stop(5.0)
        assert workload.state().phase is Phase.HELD
        assert out.read_text().split() == ["begin", "end"]
        await workload.start(2)
        assert workload.state().phase is Phase.RUNNING
        await workload.stop(5.0)
    assert changes == [
        Phase.STARTING,
        Phase.RUNNING,
        Phase.STOPPING,
        Phase.HELD,
        Phase.STARTING,
        Phase.RUNNING,
        Phase.STOPPING,
        Phase.HELD,
    ]


async def test_an_expired_lease_kills_and_a_new_start_runs_again(opened: Open) -> None:
    workload = await opened(process(*SLEEP))
    workload.renew(boottime() + 0.7)
    await workload.start(1)
    assert workload.state().phase is Phase.RUNNING
    await phase(workload, Phase.HELD, 2.0)
    assert workload.state().exit == "container app: the lease ran out"
    assert workload.state().failures == 0
    async with leased(workload):
        await asyncio.sleep(0.5)
        assert workload.state().phase is Phase.HELD
        await workload.start(2)
        assert workload.state().phase is Phase.RUNNING


async def test_failures_are_counted_and_restarted_by_start(opened: Open) -> None:
    workload = await opened(process("sh", "-c", "sleep 0.1; exit 3"))
    async with leased(workload):
        await workload.start(1)
        for failures in (1, 2, 3):
            await phase(workload, Phase.FAILED)
            state = workload.state()
            assert (state.failures, state.exit) == (failures, "container app exited with code 3")
            await workload.start(1)
        await phase(workload, Phase.FAILED)
        await workload.start(2)
        assert workload.state().failures == 0
        await phase(workload, Phase.FAILED)
        await workload.stop(1.0)
        assert workload.state().phase is Phase.HELD


async def test_a_command_that_does_not_exist_is_a_failure_that_says_so(opened: Open) -> None:
    workload = await opened(process("/no/such/program"))
    async with leased(workload):
        await workload.start(1)
        await phase(workload, Phase.FAILED)
        assert "cannot start /no/such/program: No such file" in workload.state().exit


async def test_kill_is_at_once_even_for_the_stubborn(opened: Open) -> None:
    workload = await opened(process("bash", "-c", "trap '' TERM; while :; do sleep 1; done"))
    async with leased(workload):
        await workload.start(1)
        begun = time.monotonic()
        workload.kill()
        await phase(workload, Phase.HELD)
        assert time.monotonic() - begun < 1.0


async def test_environment_directory_and_stop_signal_are_the_configured_ones(
    opened: Open, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    traps = f"trap 'echo int >> {out}; exit 0' INT; trap '' TERM"
    script = f"{traps}; echo $SHOP $PWD >> {out}; while :; do sleep 0.05; done"
    more = {"env": {"SHOP": "open"}, "cwd": str(tmp_path), "stop_signal": int(signal.SIGINT)}
    workload = await opened(process("bash", "-c", script, **more))
    async with leased(workload):
        await workload.start(1)
        await until(lambda: out.exists() and bool(out.read_text()))
        await workload.stop(10.0)
    assert out.read_text().splitlines() == [f"open {tmp_path}", "int"]


async def test_a_gate_that_dies_is_replaced_and_counts_as_a_failure(opened: Open) -> None:
    workload = process(*SLEEP)
    await opened(workload)
    async with leased(workload):
        await workload.start(1)
        assert workload.gate_pid is not None
        os.kill(workload.gate_pid, signal.SIGKILL)
        await phase(workload, Phase.FAILED)
        assert workload.state().exit == "container app was restarted from outside"
        await workload.start(2)
        await phase(workload, Phase.RUNNING)


async def test_a_missing_gate_program_is_named(tmp_path: Path) -> None:
    workload = ProcessWorkload(["true"], tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await workload.open()
    await workload.close()


def pod(tmp_path: Path, *names: str) -> PodWorkload:
    containers = [Container(name, image=f"localhost/{name}", command=tuple(SLEEP)) for name in names]
    return PodWorkload(containers, tmp_path, tmp_path / "no-cri.sock")


class PodGates:
    """The gates of a pod's containers, each PID 1 of a namespace of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.socket = tmp_path / "lease.sock"
        self.gates: dict[str, Gate] = {}

    async def start(self, name: str, *command: str) -> Gate:
        gate = Gate(self.socket, command or SLEEP, options=["--container", name])
        self.gates[name] = gate
        await asyncio.sleep(0)
        return gate


@pytest.fixture
async def gates(tmp_path: Path) -> AsyncIterator[PodGates]:
    instance = PodGates(tmp_path)
    yield instance
    for gate in instance.gates.values():
        gate.close()


async def test_a_pod_runs_when_all_its_containers_run(opened: Open, gates: PodGates, tmp_path: Path) -> None:
    workload = await opened(pod(tmp_path, "db", "metrics"))
    await gates.start("db")
    async with leased(workload):
        await workload.start(1)
        await asyncio.sleep(0.5)
        assert workload.state().phase is Phase.STARTING, "one container is still missing"
        await gates.start("metrics")
        await phase(workload, Phase.RUNNING)
        await workload.stop(5.0)
        assert workload.state().phase is Phase.HELD


async def test_only_the_container_that_failed_is_started_again(
    opened: Open, gates: PodGates, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    workload = await opened(pod(tmp_path, "db", "job"))
    await gates.start("db", "bash", "-c", f"echo db >> {log}; exec sleep 1000")
    await gates.start("job", "bash", "-c", f"echo job >> {log}; sleep 0.2; exit 1")
    async with leased(workload):
        await workload.start(1)
        await phase(workload, Phase.FAILED)
        assert workload.state().exit == "container job exited with code 1"
        await workload.start(1)
        await phase(workload, Phase.FAILED)
        assert workload.state().failures == 2
    words = log.read_text().split()
    assert (words.count("db"), words.count("job")) == (1, 2)


async def test_pod_deletion_is_announced_and_starts_nothing_again(
    opened: Open, gates: PodGates, tmp_path: Path
) -> None:
    workload = await opened(pod(tmp_path, "db"))
    gate = await gates.start("db")
    async with leased(workload):
        await workload.start(1)
        await phase(workload, Phase.RUNNING)
        gate.signal(signal.SIGTERM)
        await until(lambda: workload.state().terminating)
        await workload.stop(5.0)
        state = workload.state()
        assert (state.phase, state.failures, state.terminating) == (Phase.HELD, 0, True)
        assert gate.wait() == 143
        # The container comes back: it was no deletion, and an epoch may run again.
        await gates.start("db")
        await workload.start(2)
        await phase(workload, Phase.RUNNING)
        assert not workload.state().terminating


async def test_a_new_sidecar_stops_what_an_earlier_one_left_running(
    opened: Open, gates: PodGates, tmp_path: Path
) -> None:
    first = pod(tmp_path, "db")
    await first.open()
    await gates.start("db")
    first.renew(boottime() + 20)
    await first.start(1)
    await phase(first, Phase.RUNNING)
    # The sidecar dies without a word.
    await first._server.close()
    second = await opened(pod(tmp_path, "db"))
    async with leased(second):
        await asyncio.sleep(0.5)
        await phase(second, Phase.HELD)
        await second.start(1)
        await phase(second, Phase.RUNNING)


async def test_stop_does_not_claim_the_end_of_what_a_frozen_gate_may_still_run(
    opened: Open, gates: PodGates, tmp_path: Path
) -> None:
    workload = await opened(pod(tmp_path, "db"))
    gate = await gates.start("db")
    async with leased(workload):
        await workload.start(1)
    await phase(workload, Phase.RUNNING)
    gate.signal(signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(workload.stop(0.0), 3.0)
        assert workload.state().phase is Phase.STOPPING
    finally:
        gate.signal(signal.SIGCONT)
    await asyncio.wait_for(workload.stop(0.0), 3.0)


async def test_a_gate_that_has_gone_is_waited_for_until_its_lease_is_over(
    opened: Open, gates: PodGates, tmp_path: Path
) -> None:
    workload = await opened(pod(tmp_path, "db"))
    gate = await gates.start("db")
    async with leased(workload):
        await workload.start(1)
        await phase(workload, Phase.RUNNING)
    begun = time.monotonic()
    gate.close()
    await asyncio.wait_for(workload.stop(5.0), 5.0)
    assert time.monotonic() - begun >= LEASE - 2 * LEASE / 5


async def test_an_unknown_container_is_refused(
    opened: Open, gates: PodGates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await opened(pod(tmp_path, "db"))
    await gates.start("stranger")
    await asyncio.sleep(0.5)
    assert "'stranger', unknown here" in caplog.text


async def test_an_images_command_without_a_runtime_to_ask_is_a_failure_that_says_so(
    opened: Open, gates: PodGates, tmp_path: Path
) -> None:
    workload = await opened(pod(tmp_path, "db"))
    gates.gates["db"] = Gate(gates.socket, [], options=["--container", "db", "--image-command"])
    async with leased(workload):
        await workload.start(1)
        await phase(workload, Phase.FAILED)
        assert "no container runtime at" in workload.state().exit
