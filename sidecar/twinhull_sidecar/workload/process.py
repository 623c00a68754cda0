"""The application is one plain command on this machine, under the same gate as in a pod.

So a pair of sidecars runs without Kubernetes, and the lease is enforced by one and the same code. The gate
belongs to this sidecar process: when the sidecar is gone and its lease has run out, the gate ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from twinhull_sidecar.workload.adapter import OnChange
from twinhull_sidecar.workload.gated import Gate, GatedWorkload, Launch
from twinhull_sidecar.workload.lease_protocol import Report

log = logging.getLogger(__name__)

CONTAINER = "app"
#: Pause before a gate that ended is started again.
RESPAWN_PAUSE = 0.5
#: How long ``open`` waits for the gate's first word; later it is simply not there yet.
CONNECT_PATIENCE = 5.0


class ProcessWorkload(GatedWorkload):
    """Adapter *process*. ``env`` is added to the sidecar's own environment."""

    def __init__(
        self,
        argv: Sequence[str],
        gate_binary: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stop_signal: int | None = None,
        on_change: OnChange = lambda: None,
    ) -> None:
        # In a short path of its own: a socket's path has 107 bytes at most (unix(7)).
        self._directory = Path(tempfile.mkdtemp(prefix="twinhull-gate-"))
        super().__init__([CONTAINER], self._directory / "lease.sock", on_change=on_change)
        self._argv = tuple(argv)
        self._binary = gate_binary
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._launch_as = Launch(None, stop_signal)
        self._keeper: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def gate_pid(self) -> int | None:
        """Pid of the gate, whose descendants are the application."""
        return None if self._process is None else self._process.pid

    async def _prepare(self, gate: Gate) -> Launch:
        del gate
        return self._launch_as

    async def open(self) -> None:
        """Listen and start the gate. Raises OSError when there is no gate program."""
        await super().open()
        self._process = await self._spawn()
        self._keeper = asyncio.get_running_loop().create_task(self._keep(self._process))
        await self._until(lambda: self._gates[CONTAINER].report is not None, CONNECT_PATIENCE)

    async def _spawn(self) -> asyncio.subprocess.Process:
        socket = str(self._directory / "lease.sock")
        options = ["run", "--container", CONTAINER, "--socket", socket, "--exit-without-sidecar", "--"]
        return await asyncio.create_subprocess_exec(
            self._binary,
            *options,
            *self._argv,
            env=self._env,
            cwd=self._cwd,
            # A terminal's Ctrl-C is for the sidecar, which then stops the application in order.
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
        )

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Run a gate again whenever one ends, as kubelet would."""
        while True:
            code = await process.wait()
            log.warning("the gate ended with code %s; starting it again", code)
            self._forget_gate()
            await asyncio.sleep(RESPAWN_PAUSE)
            try:
                process = self._process = await self._spawn()
            except OSError as error:
                log.error("cannot start the gate %s: %s", self._binary, error)

    def _forget_gate(self) -> None:
        """The gate is gone, and the kernel has killed its child with it (PR_SET_PDEATHSIG)."""
        gate = self._gates[CONTAINER]
        if gate.report is not None:
            gate.report = replace(Report("held"), epoch=gate.sent)
        self._changed()

    async def close(self) -> None:
        """End the application and its gate, remove the socket."""
        self.kill()
        await self._until_gone()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
        await super().close()
        shutil.rmtree(self._directory, ignore_errors=True)
