"""The command line of ``kubectl twinhull``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import NoReturn

from .bundle import make_bundle
from .completion import SCRIPTS, complete, print_script
from .hold import hold_or_resume
from .kubectl import EXIT_CODES, INTERRUPTED, Kubectl, PluginError
from .logs import show_logs
from .orders import drain_or_resume, force_primary, restart, resync, start_or_stop, switch_over
from .roll import roll
from .show import show_status
from .verify import verify

KUBECTL_TIMEOUT = 20.0
COMPLETION_TIMEOUT = 3.0
DESCRIPTION = """Show twinhull's modules, and give orders to their sidecars.

Orders go to a sidecar by `kubectl exec`, so they need the right to exec into the module's pods and nothing of
the operator.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-n", "--namespace", help="the module's namespace")
    common.add_argument("--context", help="the kubeconfig context to use")
    common.add_argument("--kubeconfig", help="the kubeconfig file to use")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", choices=("text", "json"), default="text")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("name", help="the module")
    waits = argparse.ArgumentParser(add_help=False)
    waits.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for the outcome (120)")
    order = [common, output, named, waits]
    codes = "\n".join(f"  {code:<4} {text}" for code, text in EXIT_CODES.items())
    top = argparse.ArgumentParser(
        prog="kubectl twinhull",
        description=DESCRIPTION,
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    _add_status(commands.add_parser("status", parents=[common], help="show modules, or everything about one"))
    switch = commands.add_parser("switchover", parents=order, help="move a module to its other node")
    switch.add_argument("--to", metavar="NODE", help="fail unless it ends up on this node")
    switch.set_defaults(run=switch_over)
    for name, text in (
        ("start", "start the application again after stop; returns when it is ready"),
        ("stop", "stop the application on whichever node runs it (of a farm: on both), until start"),
    ):
        commands.add_parser(name, parents=order, help=text).set_defaults(run=start_or_stop)
    again = commands.add_parser(
        "restart", parents=order, help="restart the application; of a farm on one node after the other"
    )
    again.add_argument("--node", help="of a farm: on this node only")
    again.set_defaults(run=restart)
    sync = commands.add_parser("resync", parents=order, help="compare and copy everything again")
    sync.add_argument("--wait", action="store_true", help="return when both nodes are in sync")
    sync.set_defaults(run=resync)
    check = commands.add_parser(
        "verify", parents=order, help="compare both nodes' files of a mirror while the application works"
    )
    check.add_argument(
        "--repair", action="store_true", help="give the secondary what the primary has where they differ"
    )
    check.set_defaults(run=verify)
    force = commands.add_parser(
        "force-primary", parents=order, help="let a waiting node serve with the data it has"
    )
    force.add_argument("--node", required=True, help="the node that is to serve")
    force.add_argument(
        "--discard-peer",
        action="store_true",
        help="end a split brain: what only the other node has goes to its quarantine folder",
    )
    force.add_argument("-y", "--yes", action="store_true", help="do not ask")
    force.set_defaults(run=force_primary)
    _add_holds(commands, order)
    change = commands.add_parser(
        "roll", parents=[common, output, named], help="roll a change out although no node could take over"
    )
    change.add_argument("--unprotected", action="store_true", help="required: the application is interrupted")
    change.add_argument("-y", "--yes", action="store_true", help="do not ask")
    change.set_defaults(run=roll)
    _add_logs(
        commands.add_parser("logs", parents=[common, output, named], help="both sides' logs merged in time")
    )
    bundle = commands.add_parser(
        "support-bundle", parents=[common, output, named], help="all that a bug report needs, without secrets"
    )
    bundle.add_argument("-f", "--file", help="the archive (default: named by module and time)")
    bundle.add_argument("--application", action="store_true", help="with the application's logs")
    bundle.add_argument("--lines", type=int, default=20000, help="of each log at most (20000)")
    bundle.set_defaults(run=make_bundle)
    script = commands.add_parser("completion", parents=[common], help="a script for the shell")
    script.add_argument("shell", choices=sorted(SCRIPTS))
    script.set_defaults(run=print_script, output="text")
    return top


def _add_holds(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], order: list[argparse.ArgumentParser]
) -> None:
    drain = commands.add_parser(
        "drain", parents=order, help="let a farm's node take no new clients; those that it has stay"
    )
    drain.add_argument("--node", required=True, help="the node")
    drain.set_defaults(run=drain_or_resume)
    hold = commands.add_parser(
        "hold", parents=order, help="let no node of a mirror take over unasked, until resume"
    )
    hold.set_defaults(run=hold_or_resume)
    resume = commands.add_parser(
        "resume", parents=order, help="end hold; of a farm: let a drained node take clients again"
    )
    resume.add_argument("--node", help="of a farm: the node")
    resume.set_defaults(run=hold_or_resume)


def _add_status(status: argparse.ArgumentParser) -> None:
    status.add_argument("name", nargs="?", help="the module (default: all of the namespace)")
    status.add_argument("-A", "--all-namespaces", action="store_true")
    status.add_argument("-o", "--output", choices=("text", "wide", "json", "yaml"), default="text")
    status.add_argument("-w", "--watch", action="store_true", help="go on showing it until interrupted")
    status.add_argument("--interval", type=float, default=2.0, help="seconds between two looks (2)")
    status.set_defaults(run=show_status)


def _add_logs(logs: argparse.ArgumentParser) -> None:
    logs.add_argument("--follow", "-f", action="store_true", help="go on until interrupted")
    logs.add_argument("--since", help="only newer lines, for example 10m")
    logs.add_argument("--tail", type=int, default=-1, help="so many lines of each log (default: all)")
    logs.add_argument("--previous", "-p", action="store_true", help="of the containers that ran before")
    logs.add_argument("--application", "-a", action="store_true", help="with the application's containers")
    logs.add_argument("--node", help="of this node only")
    logs.set_defaults(run=show_logs)


def fail(arguments: argparse.Namespace, error: PluginError) -> int:
    """Tell why, and return the exit code."""
    if arguments.output == "json" and arguments.command not in ("status", "logs"):
        print(json.dumps({"state": "failed", "message": str(error), "code": error.code}))
    print(f"error: {error}", file=sys.stderr)
    return error.code


def main() -> NoReturn:
    """Run one command."""
    if sys.argv[1:2] == ["__complete"]:
        sys.exit(complete(Kubectl([], COMPLETION_TIMEOUT), parser(), sys.argv[2:]))
    arguments = parser().parse_args()
    options = [
        f"--{name}={value}"
        for name in ("namespace", "context", "kubeconfig")
        if (value := getattr(arguments, name))
    ]
    try:
        sys.exit(arguments.run(Kubectl(options, KUBECTL_TIMEOUT), arguments))
    except PluginError as error:
        sys.exit(fail(arguments, error))
    except BrokenPipeError:
        # Whoever read has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
