"""`roll --unprotected`: roll a changed specification out although no node could take over meanwhile."""

from __future__ import annotations

import argparse
import sys

from .kubectl import FAILED, KUBECTL_FAILED, MIRRORS, USAGE, Kubectl, PluginError, condition
from .orders import confirm, report

ANNOTATION = "twinhull.dev/roll-unprotected"


def roll(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """Allows it for the specification as it is now; the next change has to be allowed anew."""
    name = arguments.name
    module = kubectl.get(MIRRORS, name)
    rollout = condition(module, "UpToDate")
    if rollout.get("status") == "True":
        return report(arguments, f"all pods of {name} run this specification already")
    if not arguments.unprotected:
        raise PluginError(
            USAGE,
            f"a rollout begins by itself: {rollout.get('message', 'not seen by the operator yet')}. "
            "To roll out although no node could take over, say --unprotected",
        )
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise PluginError(USAGE, "the application stops while its pod is replaced; say --yes to do it")
        print(
            f"{name}: {rollout.get('message')}\n"
            "Its pods will be replaced although no node can take over: the application stops until its new pod is up,\n"
            "and if that pod does not start, it stays down. The data stays on the nodes.",
            file=sys.stderr,
        )
        confirm(name, what="module")
    generation = module["metadata"].get("generation")
    result = kubectl.run("annotate", MIRRORS, name, f"{ANNOTATION}={generation}", "--overwrite")
    if result.returncode != 0:
        code = KUBECTL_FAILED if "Forbidden" in result.stderr else FAILED
        raise PluginError(code, result.stderr.strip() or "kubectl failed")
    return report(
        arguments,
        f"{name} is rolled out unprotected (generation {generation}); `kubectl twinhull status {name} -w`",
    )
