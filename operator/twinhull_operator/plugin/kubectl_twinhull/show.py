"""`status`: from the resources, which the operator keeps."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from .kubectl import DONE, KUBECTL_FAILED, Kubectl, PluginError, condition, find_module, find_modules, is_farm

CLEAR = "\033[H\033[2J\033[3J"
COLOURS = {
    "protected": "32",
    "serving": "33",
    "starting": "33",
    "unknown": "33",
    "down": "31",
    "invalid": "31",
    "True": "",
}
STEPS = (
    *("peerLost", "leaseOver", "vipProbed", "detected", "recorded", "promoted", "vipAnnounced"),
    *("applicationStarted", "applicationReady", "firstWrite"),
)
MIRROR_COLUMNS = ["ROLE", "PRIMARY", "SECONDARY", "SYNC"]
FARM_COLUMNS = ["UP", "ANNOUNCER", "SHARES"]
WIDE_COLUMNS = ["AVAILABLE", "DEGRADED", "VALID", "UP TO DATE", "SIDECARS", "LAST FAILOVER"]
_ESCAPE = re.compile("\033\\[[0-9;]*m")


class Paint:
    """Colours words for a terminal, or leaves them as they are."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Paint:
        """On a terminal that wants it (https://no-color.org)."""
        return cls(on=sys.stdout.isatty() and not environment.get("NO_COLOR"))

    def word(self, word: str) -> str:
        """The word in its colour."""
        colour = COLOURS.get(word) if self._on else None
        return f"\033[{colour}m{word}\033[0m" if colour else word


def table(rows: list[list[str]]) -> str:
    """Columns as kubectl aligns them."""

    def width(cell: str) -> int:
        return len(_ESCAPE.sub("", cell))

    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "   ".join(cell + " " * (size - width(cell)) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def state(module: dict[str, Any]) -> str:
    """What an administrator asks first: protected (either node may fail), serving, down, unknown, invalid."""
    available = condition(module, "Available").get("status")
    if available == "True":
        return "protected" if condition(module, "Degraded").get("status") == "False" else "serving"
    if condition(module, "ConfigurationValid").get("status") == "False":
        return "invalid"
    return {"False": "down", "Unknown": "unknown"}.get(available or "", "starting")


def why(module: dict[str, Any]) -> str:
    """Why a module is not protected; empty when it is, or when nobody knows yet."""
    kinds = {
        "serving": "Degraded",
        "down": "Available",
        "unknown": "Available",
        "invalid": "ConfigurationValid",
    }
    found = condition(module, kinds.get(state(module), ""))
    return f"{found['reason']}: {found['message']}" if found else ""


def mirror_cells(status: dict[str, Any]) -> list[str]:
    """The columns of a MirrorModule."""
    primary = status.get("primary", "-") + (" (last known)" if status.get("primaryLastKnown") else "")
    return [status.get("role", "-"), primary, status.get("secondary", "-"), status.get("sync", "-")]


def farm_cells(status: dict[str, Any]) -> list[str]:
    """The columns of a FarmModule."""
    return [status.get("up", "-"), status.get("announcer", "-"), status.get("shares", "-")]


def wide_cells(module: dict[str, Any]) -> list[str]:
    """What `-o wide` adds."""
    status = module.get("status", {})
    nodes = status.get("nodes") or []
    failover = status.get("lastFailover") or {}
    return [
        *(condition(module, kind).get("status", "-") for kind in ("Available", "Degraded")),
        *(condition(module, kind).get("status", "-") for kind in ("ConfigurationValid", "UpToDate")),
        f"{sum(1 for node in nodes if node.get('reachable'))}/{len(nodes)}",
        failover.get("promoted", "-"),
    ]


def summary(modules: list[dict[str, Any]], paint: Paint, *, wide: bool = False) -> str:
    """One line per module, a table per kind; below, why a module is not protected."""
    tables = []
    for farm, columns, cells in ((False, MIRROR_COLUMNS, mirror_cells), (True, FARM_COLUMNS, farm_cells)):
        rows = [
            [
                module["metadata"]["namespace"],
                module["metadata"]["name"],
                paint.word(state(module)),
                *cells(module.get("status", {})),
                module.get("status", {}).get("vip", "-"),
                *(wide_cells(module) if wide else ()),
            ]
            for module in modules
            if is_farm(module) == farm
        ]
        if rows:
            more = WIDE_COLUMNS if wide else []
            tables.append(table([["NAMESPACE", "NAME", "STATE", *columns, "VIP", *more], *rows]))
    notes = [
        f"{module['metadata']['namespace']}/{module['metadata']['name']}: {text}"
        for module in modules
        if (text := why(module))
    ]
    return "\n\n".join([*tables, *(["\n".join(notes)] if notes else [])])


def details(module: dict[str, Any], paint: Paint, *, wide: bool = False) -> str:
    """Everything about one module, for a person."""
    status = module.get("status", {})
    lines = [summary([module], paint, wide=wide), ""]
    if status.get("reason"):
        lines += [status["reason"], ""]
    lines.append(table(_node_rows(module, wide=wide)))
    conditions = [["CONDITION", "STATUS", "REASON", "MESSAGE"]]
    conditions += [
        [c["type"], c["status"], c["reason"], c["message"]] for c in status.get("conditions") or []
    ]
    lines += ["", table(conditions)]
    for problem in status.get("problems") or []:
        where = f" on {problem['node']}" if problem.get("node") else ""
        lines += [
            "",
            f"PROBLEM  {problem['field']}{where}: {problem['message']}",
            f"   MEND  {problem['mend']}",
        ]
    failover = status.get("lastFailover")
    if failover:
        lines += ["", f"Last failover to {failover.get('node')}: {failover.get('cause')}"]
        lines += [f"  {name:<20}{failover[name]}" for name in STEPS if failover.get(name)]
    return "\n".join(lines)


def _node_rows(module: dict[str, Any], *, wide: bool) -> list[list[str]]:
    farm = is_farm(module)
    nodes = module.get("status", {}).get("nodes") or []
    checked = not farm and any(node.get("checkers") for node in nodes)
    own = ["SHARE", "CONNECTIONS", "CHECKERS PASSING"] if farm else ["IN SYNC"]
    own += ["CHECKERS PASSING"] if checked else []
    more = ["ADDRESS", "POD", "CONFIG"] if wide else []
    rows = [["NODE", "ROLE", *own, "APPLICATION", "RESTARTS", "LINKS UP", "SIDECAR", *more, "REASON"]]
    for node in nodes:
        application = node.get("application", {})
        links = node.get("links") or []
        ready = " (ready)" if application.get("ready") else ""
        synced = f" {node['syncedPercent']}%" if "syncedPercent" in node else ""
        rows.append(
            [
                node["name"],
                node.get("role", "-"),
                *(_farm_node(node) if farm else [str(node.get("inSync", "-")).lower() + synced]),
                *([_passing(node)] if checked else ()),
                (application.get("phase") or "-") + ready,
                str(application.get("restarts", "-")),
                f"{sum(1 for link in links if link.get('up'))}/{len(links)}",
                "answers" if node.get("reachable") else f"silent since {node.get('unreachableSince', '?')}",
                *((node.get("address", "-"), node.get("pod", "-"), _short(node)) if wide else ()),
                node.get("podProblem") or node.get("reason", "-"),
            ]
        )
    return rows


def _farm_node(node: dict[str, Any]) -> list[str]:
    return [node.get("share", "-"), str(node.get("connections", "-")), _passing(node)]


def _passing(node: dict[str, Any]) -> str:
    checkers = node.get("checkers") or []
    return f"{sum(1 for checker in checkers if checker.get('passing'))}/{len(checkers)}"


def _short(node: dict[str, Any]) -> str:
    return str(node.get("configHash") or "-")[:10]


def to_yaml(value: Any, indent: str = "") -> str:
    """YAML of what JSON can say. Texts are in JSON's quotes, which YAML reads as they are."""
    if isinstance(value, Mapping) and value:
        return "".join(f"{indent}{key}:{_nested(item, indent + '  ')}" for key, item in value.items())
    if isinstance(value, list) and value:
        made = ""
        for item in value:
            text = to_yaml(item, indent + "  ")
            made += f"{indent}- {text[len(indent) + 2 :] if text.startswith(indent + '  ') else text}"
        return made
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text) + "\n"


def _nested(value: Any, indent: str) -> str:
    block = isinstance(value, (Mapping, list)) and value
    return ("\n" if block else " ") + to_yaml(value, indent)


def _structured(modules: list[dict[str, Any]], name: str | None) -> Any:
    if name:
        return modules[0].get("status", {})
    return [
        {
            "kind": module.get("kind"),
            "namespace": module["metadata"]["namespace"],
            "name": module["metadata"]["name"],
            "state": state(module),
            "status": module.get("status", {}),
        }
        for module in modules
    ]


def _render(kubectl: Kubectl, arguments: argparse.Namespace, paint: Paint) -> str:
    if arguments.name:
        modules = [find_module(kubectl, arguments.name)]
    else:
        modules = find_modules(kubectl, *(["--all-namespaces"] if arguments.all_namespaces else []))
    if arguments.output == "json":
        indent = None if arguments.watch else 2
        return json.dumps(_structured(modules, arguments.name), indent=indent)
    if arguments.output == "yaml":
        start = "---\n" if arguments.watch else ""
        return start + to_yaml(_structured(modules, arguments.name)).rstrip("\n")
    wide = arguments.output == "wide"
    if arguments.name:
        return details(modules[0], paint, wide=wide)
    return summary(modules, paint, wide=wide) if modules else "No modules found."


def show_status(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """Once, or again and again until interrupted."""
    paint = Paint.of(os.environ)
    if not arguments.watch:
        print(_render(kubectl, arguments, paint))
        return DONE
    screen = sys.stdout.isatty() and arguments.output in ("text", "wide")
    shown, known = "", ""
    while True:
        try:
            known = text = _render(kubectl, arguments, paint)
        except PluginError as error:
            if error.code != KUBECTL_FAILED or not known:
                raise
            # The API server may have died with the node that failed: go on showing what was known.
            text = f"{known}\n\n(as it was; now: {error})" if screen else known
        if screen:
            print(
                f"{CLEAR}{time.strftime('%H:%M:%S')}  every {arguments.interval:g} s, Ctrl-C ends\n\n{text}"
            )
        elif text != shown:
            print(text if arguments.output in ("json", "yaml") else f"{text}\n", flush=True)
        shown = text
        time.sleep(arguments.interval)
