"""Powers a node off through its baseboard management controller (DMTF DSP0266, DSP2046: ComputerSystem.Reset).

Off means that the controller says so: the order alone is no proof. The node stays off until somebody powers it on.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import Any, Final

import aiohttp

from twinhull_sidecar.config import Bmc

REQUEST_TIMEOUT: Final = 5.0
POLL: Final = 0.5
_OFF: Final = "Off"
_RESET: Final = "#ComputerSystem.Reset"
_LONGEST_ANSWER: Final = 200


class FenceError(Exception):
    """The node is not surely off; the text says why."""


class Redfish:
    """One node's controller. The Secret's files are read anew at each use: kubelet replaces them."""

    def __init__(self, bmc: Bmc) -> None:
        self._bmc = bmc

    async def check(self) -> str:
        """The node's power state. Raises FenceError where the controller does not give it."""
        async with self._session() as session:
            system = await self._system(session)
            return str((await _get(session, system)).get("PowerState"))

    async def power_off(self, timeout: float) -> None:
        """Return when the controller says that the node is off. Raises FenceError after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        async with self._session() as session:
            system = await self._system(session)
            found = await _get(session, system)
            if found.get("PowerState") == _OFF:
                return
            try:
                target = str(found["Actions"][_RESET]["target"])
            except (KeyError, TypeError):
                raise FenceError(f"{system} has no action {_RESET}") from None
            await _request(session, "POST", target, {"ResetType": "ForceOff"})
            while time.monotonic() < end:
                await asyncio.sleep(POLL)
                if (await _get(session, system)).get("PowerState") == _OFF:
                    return
        raise FenceError(f"{system} was told to power off and is still on after {timeout:.0f} s")

    def _session(self) -> aiohttp.ClientSession:
        directory = Path(self._bmc.secret)
        try:
            user = (directory / "username").read_text().strip()
            password = (directory / "password").read_text().strip()
        except OSError as error:
            missing = Path(str(error.filename)).name
            raise FenceError(f"its Secret has no {missing} ({error.strerror})") from None
        authority = directory / "ca.crt"
        try:
            trust = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
        except (OSError, ssl.SSLError) as error:
            raise FenceError(f"ca.crt of its Secret cannot be used ({error})") from None
        return aiohttp.ClientSession(
            base_url=self._bmc.endpoint.rstrip("/"),
            auth=aiohttp.BasicAuth(user, password),
            connector=aiohttp.TCPConnector(ssl=trust, limit=1),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
            headers={"Accept": "application/json"},
        )

    async def _system(self, session: aiohttp.ClientSession) -> str:
        """The path of the one system of this controller."""
        if self._bmc.system:
            return self._bmc.system
        members = (await _get(session, "/redfish/v1/Systems")).get("Members") or []
        if len(members) != 1:
            raise FenceError(f"the controller has {len(members)} systems; name one in system")
        return str(members[0].get("@odata.id"))


async def _get(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    text = await _request(session, "GET", path, None)
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise FenceError(f"the answer to GET {path} is no object")
    return body


async def _request(
    session: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any] | None
) -> str:
    try:
        async with session.request(method, path, json=body, allow_redirects=False) as answer:
            text = await answer.text()
    except TimeoutError:
        raise FenceError(f"the controller does not answer within {REQUEST_TIMEOUT:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FenceError(f"the controller cannot be reached: {error or type(error).__name__}") from error
    if answer.status in (401, 403):
        raise FenceError(f"the controller refuses username and password ({answer.status})")
    if answer.status >= 300:
        raise FenceError(
            f"{method} {path} was answered with {answer.status} {text[:_LONGEST_ANSWER]}".strip()
        )
    return text
