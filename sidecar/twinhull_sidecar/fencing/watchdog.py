"""The node's watchdog device (the kernel's Documentation/watchdog/watchdog-api.rst): unless written to, it resets it.

Open while this node has something of the module to undo, written to at each turn of the control loop that finds
everything in order. A sidecar that hangs, or that cannot undo what it must, writes no more. Closed with the magic
character when there is nothing to undo; a sidecar that dies leaves it running.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import struct
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

#: linux/watchdog.h: _IOWR('W', 6, int).
WDIOC_SETTIMEOUT: Final = 0xC0045706
_ALIVE, _MAGIC_CLOSE = b"\0", b"V"
#: Seconds; with less, a node that is merely busy would be reset.
LEAST_TIMEOUT = 5
#: Seconds between two attempts to open it.
OPEN_AGAIN = 5.0


def timeout_for(detection_timeout: float) -> int:
    """After how many seconds without a sign of life the node is reset."""
    return max(LEAST_TIMEOUT, math.ceil(2 * detection_timeout))


class Watchdog:
    """``problem`` says why the device does not watch this node although it should; empty when it does."""

    def __init__(self, device: Path, timeout: int) -> None:
        self._device, self._timeout = device, timeout
        self._descriptor: int | None = None
        self._tried_at = -math.inf
        self.problem = ""

    @property
    def armed(self) -> bool:
        """The device counts down."""
        return self._descriptor is not None

    def tend(self, *, needed: bool, stuck: bool, now: float) -> None:
        """One turn of the control loop: ``needed``: there is something to undo; ``stuck``: it cannot be undone."""
        if stuck:
            return
        if not needed:
            self.close()
        elif self._descriptor is not None:
            self._write(_ALIVE)
        elif now - self._tried_at >= OPEN_AGAIN:
            self._tried_at = now
            self._open()

    def close(self) -> None:
        """Stop it, in order."""
        if self._descriptor is None:
            return
        self._write(_MAGIC_CLOSE)
        os.close(self._descriptor)
        self._descriptor = None

    def abandon(self) -> None:
        """The process ends although something could not be undone: leave the device running."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        try:
            descriptor = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self.problem = f"{self._device} cannot be opened ({error.strerror})"
            return
        try:
            fcntl.ioctl(descriptor, WDIOC_SETTIMEOUT, struct.pack("i", self._timeout))
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
                self.problem = f"{self._device} takes no timeout ({error.strerror})"
                os.close(descriptor)
                return
            log.warning("%s keeps its own timeout (%s)", self._device, error.strerror)
        self._descriptor, self.problem = descriptor, ""
        self._write(_ALIVE)

    def _write(self, what: bytes) -> None:
        assert self._descriptor is not None
        try:
            os.write(self._descriptor, what)
        except OSError as error:
            self.problem = f"{self._device} cannot be written to ({error.strerror})"
        else:
            self.problem = ""
