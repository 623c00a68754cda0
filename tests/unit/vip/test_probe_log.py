"""An address that is in use is logged once, not at every probe."""

from __future__ import annotations

import ipaddress
import logging

import pytest

from tests.unit.control.doubles import module
from twinhull_sidecar.vip import VipHolder
from twinhull_sidecar.vip.frames import Claim

FIRST, SECOND = ipaddress.ip_address("10.0.0.9"), ipaddress.ip_address("fd00::9")
ONE, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


async def test_only_what_changes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "twinhull_sidecar.vip.holder")
    holder = VipHolder(module(), "a", None, 1.5)

    def told(*claims: Claim) -> list[str]:
        caplog.clear()
        holder._tell(claims)
        return caplog.messages

    used = Claim(FIRST, ONE, probing=False)
    assert told() == []
    assert told(used) == ["virtual address 10.0.0.9 is in use by 02:00:00:00:00:01"]
    assert told(used) == []
    assert told(used, Claim(SECOND, OTHER, probing=True)) == [
        "virtual address fd00::9 is probed for by 02:00:00:00:00:02"
    ]
    moved = Claim(FIRST, OTHER, probing=False)
    assert told(moved) == [
        "virtual address 10.0.0.9 is in use by 02:00:00:00:00:02",
        "virtual address fd00::9 is not in use any more",
    ]
    assert told() == ["virtual address 10.0.0.9 is not in use any more"]
    assert told(moved) == ["virtual address 10.0.0.9 is in use by 02:00:00:00:00:02"]
    holder._kernel.shutdown()
