"""nft(8), run for what changes seldom: making and removing tables."""

from __future__ import annotations

import errno
import subprocess

_SECONDS = 10.0


def run(script: str, check_only: bool = False) -> None:
    """Carry out a script in one transaction, or only have it checked. Raises OSError with nft's complaint."""
    argv = ["nft", *(["--check"] if check_only else []), "-f", "-"]
    try:
        done = subprocess.run(
            argv, input=script, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"nft did not end within {_SECONDS:g} s") from None
    if done.returncode != 0:
        complaint = " ".join(done.stderr.split()) or f"nft ended with code {done.returncode}"
        raise OSError(errno.EINVAL, complaint)


def check(script: str) -> None:
    """Have a script checked by nft and the kernel without effect. Raises OSError."""
    run(script, check_only=True)
