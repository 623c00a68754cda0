"""Signals by the names that images and manifests use."""

from __future__ import annotations

import re
import signal


def parse_signal(text: str) -> int:
    """Number of ``SIGINT``, ``INT``, ``2`` or ``SIGRTMIN+3`` (the forms of a Dockerfile's STOPSIGNAL).

    Raises ValueError for anything else.
    """
    name = text.strip().upper()
    if name.isascii() and name.isdigit():
        number = int(name)
    else:
        name = name if name.startswith("SIG") else f"SIG{name}"
        match = re.fullmatch(r"(SIGRTMIN\+|SIGRTMAX-)(\d{1,2})", name)
        if match:
            offset = int(match[2])
            number = signal.SIGRTMIN + offset if match[1] == "SIGRTMIN+" else signal.SIGRTMAX - offset
        else:
            number = int(getattr(signal, name, 0)) if name in signal.Signals.__members__ else 0
    if not 1 <= number <= 64:
        raise ValueError(f"{text!r} is no signal")
    return number


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; a number without a name stays one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
