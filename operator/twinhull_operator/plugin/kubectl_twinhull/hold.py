"""`hold`, `resume`: no automatic failover of a mirror until it is resumed; of a farm, `resume` ends a drain."""

from __future__ import annotations

import argparse
import time

from .kubectl import NOT_FOUND, USAGE, Kubectl, PluginError, find_module, find_pods, is_farm
from .orders import ask_all, drain_or_resume, give_order, late, report, serves, wait_until


def hold_or_resume(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """Asks the node that serves, else any; returns when every sidecar that answers knows."""
    name, hold = arguments.name, arguments.command == "hold"
    farm = is_farm(find_module(kubectl, name))
    if farm and hold:
        raise PluginError(
            USAGE, f"{name} is a farm: `kubectl twinhull drain {name} --node NODE` empties one node"
        )
    if farm:
        if not arguments.node:
            raise PluginError(USAGE, f"{name} is a farm: name the node whose draining ends, with --node")
        return drain_or_resume(kubectl, arguments)
    if not hold and arguments.node:
        raise PluginError(
            USAGE, f"{name} is a mirror: failover is held or resumed on both nodes; leave --node out"
        )
    pods = find_pods(kubectl, name)
    statuses = ask_all(kubectl, pods)
    answering = sorted((n for n, status in statuses.items() if status), key=lambda n: not serves(statuses[n]))
    if not answering:
        raise PluginError(NOT_FOUND, f"no sidecar of {name} answers")
    started = time.monotonic()
    outcome = give_order(kubectl, pods[answering[0]], arguments, arguments.command)

    def known() -> bool:
        said = [status for status in ask_all(kubectl, pods).values() if status is not None]
        return bool(said) and all(bool(status.get("failover_held")) == hold for status in said)

    if not wait_until(known, started + arguments.timeout):
        raise late(arguments, f"{answering[0]} took the order, but the other node does not know of it yet")
    silent = [node for node, status in statuses.items() if status is None]
    rest = f"; {' and '.join(silent)} does not answer and learns it later" if silent else ""
    if hold:
        text = f"no node of {name} takes over unasked{rest}; `kubectl twinhull resume {name}` ends that"
    else:
        text = f"failover of {name} is automatic again{rest}"
    return report(arguments, text, order=outcome)
