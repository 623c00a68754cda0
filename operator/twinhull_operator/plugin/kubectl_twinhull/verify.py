"""`verify`: compare both nodes' files and show what differs."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from .kubectl import FAILED, Kubectl, PluginError
from .orders import ask_all, ask_status, find_mirror, find_serving, give_order, late, report, wait_until


def verify(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """Returns when everything has been compared. Fails when something differs that was not repaired."""
    pods = find_mirror(kubectl, arguments.name)
    node = find_serving(arguments, ask_all(kubectl, pods))
    before = _known(ask_status(kubectl, pods[node]))
    started = time.monotonic()
    outcome = give_order(kubectl, pods[node], arguments, "repair" if arguments.repair else "verify")
    known: dict[str, Any] = {}

    def ended() -> bool:
        nonlocal known
        now = _known(ask_status(kubectl, pods[node]))
        if not now or now.get("begun") == before.get("begun"):
            return False
        known = now
        return not known.get("running") and not known.get("resync")

    if not wait_until(ended, started + arguments.timeout):
        if known.get("resync"):
            raise late(arguments, "names differ, and the full resynchronisation that repairs them goes on")
        compared = f"{known.get('files', 0)} files compared so far"
        raise late(arguments, f"the comparison goes on, {compared}; `kubectl twinhull status` shows more")
    found, repaired = int(known.get("found", 0)), int(known.get("repaired", 0))
    for line in describe(known):
        print(line, file=sys.stderr)
    if known.get("stopped"):
        raise PluginError(FAILED, f"the comparison did not come to its end: {known['stopped']}")
    if found > repaired:
        raise PluginError(FAILED, f"{found} differences, {repaired} of them repaired")
    text = f"{arguments.name}: {known.get('files', 0)} files compared, {found} differences"
    return report(arguments, f"{text}, all repaired" if found else text, order=outcome, verification=known)


def describe(known: dict[str, Any]) -> list[str]:
    """Each difference as a line."""
    lines = []
    for one in known.get("differences", []):
        place = f" at byte {one.get('offset', 0)}, {one['length']} bytes" if int(one.get("length", 0)) else ""
        detail = f": {one['detail']}" if one.get("detail") else ""
        mended = " (repaired)" if one.get("repaired") else ""
        lines.append(f"{one.get('volume')}/{one.get('path')}: {one.get('what')}{place}{detail}{mended}")
    return lines


def _known(status: dict[str, Any] | None) -> dict[str, Any]:
    known: dict[str, Any] = (status or {}).get("verification") or {}
    return known
