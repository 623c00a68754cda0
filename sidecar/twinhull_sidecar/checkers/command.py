"""Checker *exec*: a command ends with code 0."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from twinhull_sidecar.checkers.failure import CheckError

#: Of what a command says, so much goes into a status.
_SHOWN = 200


async def check(command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> str:
    """Run it; what was found. Raises CheckError. Cancelled, it kills the command and all that it started."""
    name = command[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **env},
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise CheckError(f"{name}: {error.strerror or error}") from None
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode:
        said = " ".join(output.decode(errors="replace").split())[:_SHOWN]
        raise CheckError(f"{name} ended with code {process.returncode}" + (f": {said}" if said else ""))
    return f"{name} ended with code 0"
