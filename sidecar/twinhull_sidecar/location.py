"""Where a sidecar's control socket is: in its module's directory; from the configuration or by a look."""

from __future__ import annotations

import json
import os
from pathlib import Path

CONFIG = Path("/etc/twinhull/module.json")
MODULES = Path("/var/lib/twinhull")
FALLBACK = Path("/run/twinhull/control.sock")
SOCKET_NAME = "control.sock"


class LocationError(Exception):
    """No socket, or several; the text says how to name one."""


def socket_of_config(config: Path) -> Path:
    """The socket that the sidecar with this configuration file serves.

    Also for a file that :func:`twinhull_sidecar.config.parse` refuses, as long as its ``base_dir`` can be
    read: a sidecar with a bad configuration says so over its socket. Else a fixed place in the container.
    """
    try:
        base = json.loads(config.read_bytes())["base_dir"]
    except (OSError, ValueError, LookupError, TypeError):
        return FALLBACK
    if not isinstance(base, str) or not base.startswith("/"):
        return FALLBACK
    return Path(base) / SOCKET_NAME


def find_socket(explicit: str | None, module: str | None) -> Path:
    """The socket an administrator means. Raises LocationError."""
    if explicit:
        return Path(explicit)
    if module:
        namespace, slash, name = module.partition("/")
        if not slash or not namespace or not name:
            raise LocationError(f"--module {module!r} is not NAMESPACE/NAME")
        return MODULES / f"{namespace}-{name}" / SOCKET_NAME
    if path := os.environ.get("TWINHULL_SOCKET"):
        return Path(path)
    if CONFIG.exists():
        return socket_of_config(CONFIG)
    found = sorted(MODULES.glob(f"*/{SOCKET_NAME}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise LocationError("no module has a running sidecar on this node; name its socket with --socket")
    names = ", ".join(path.parent.name for path in found)
    raise LocationError(f"this node has several modules ({names}); choose one with --module NAMESPACE/NAME")
