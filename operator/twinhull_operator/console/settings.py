"""What the chart tells the console through the operator's environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinhull_operator.settings import SettingsError


@dataclass(frozen=True)
class ConsoleSettings:
    """``certificate``: a directory with tls.crt and tls.key; None: one is made. ``names``: for which one."""

    port: int
    certificate: Path | None = None
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")


def read_console_settings(environment: Mapping[str, str]) -> ConsoleSettings | None:
    """None when no console is wanted. Raises SettingsError."""
    port = environment.get("TWINHULL_CONSOLE_PORT", "")
    if not port:
        return None
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise SettingsError(
            f"TWINHULL_CONSOLE_PORT is {port!r}; set it to a port, 1 to 65535, or leave it out"
        )
    directory = environment.get("TWINHULL_CONSOLE_CERTIFICATE", "")
    if directory and not directory.startswith("/"):
        raise SettingsError(
            f"TWINHULL_CONSOLE_CERTIFICATE is {directory!r}; set it to an absolute path, or leave it out"
        )
    names = tuple(environment.get("TWINHULL_CONSOLE_NAMES", "").split())
    return ConsoleSettings(
        port=int(port),
        certificate=Path(directory) if directory else None,
        names=(*ConsoleSettings.names, *(name for name in names if name not in ConsoleSettings.names)),
    )
