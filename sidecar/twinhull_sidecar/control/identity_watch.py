"""Takes over renewed certificates while the sidecar runs: kubelet replaces the mounted files, nothing is restarted."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from twinhull_sidecar import tls
from twinhull_sidecar.config import ConfigError
from twinhull_sidecar.control.events import EventLog

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two looks at the files. kubelet itself needs about a minute."""


class IdentityWatch:
    """``identity`` is the one to prove ourselves with now."""

    def __init__(
        self, directory: Path, identity: tls.Identity, uid: str, holder: str, events: EventLog
    ) -> None:
        self.identity = identity
        self._directory = directory
        self._uid = uid
        self._holder = holder
        self._events = events
        self._said = ""
        self._complain(identity.trouble)

    async def run(self, on_renewed: Callable[[tls.Identity], None], period: float | None = None) -> None:
        """Look from time to time, until cancelled."""
        unusable = ""
        while True:
            await asyncio.sleep(PERIOD if period is None else period)
            try:
                found = await asyncio.to_thread(tls.load, self._directory, self._holder, self._uid)
            except ConfigError as error:
                # Perhaps caught in the middle of a change: worth a word only if the next look finds the same.
                if str(error) == unusable:
                    self._complain(f"{error}; the certificate that was loaded before stays in use")
                unusable = str(error)
                continue
            unusable = ""
            if self.take(found):
                on_renewed(found)

    def take(self, found: tls.Identity) -> bool:
        """Use what the files hold now; False when it is not new, or not to be used."""
        if found.key != self.identity.key:
            # Heartbeats and stream are authenticated with it: the peer may not have the new one.
            self._complain("the module's shared key was changed; restart the module's pods together")
            return False
        if found.trouble:
            self._complain(found.trouble)
        if found == self.identity:
            return False
        before, self.identity = self.identity, found
        if not found.trouble:
            self._said = ""
            renewed = found.certificate != before.certificate
            what = "a renewed certificate is" if renewed else "renewed certificates of authorities are"
            mark = hashlib.sha256(found.certificate if renewed else found.ca).hexdigest()[:16]
            self._events.normal("CertificateRenewed", f"{what} in use (SHA-256 of the file: {mark}...)")
        return True

    def _complain(self, text: str) -> None:
        if text and text != self._said:
            self._events.warning("CertificateProblem", text)
        self._said = text
