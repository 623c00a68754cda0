"""``twinhullctl``: the administrator's command on a node, over the sidecar's Unix socket, without the API."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import sys
import uuid
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict

from twinhull_sidecar import location
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.client import Connection, connect_socket

ACTIONS = {
    "switchover": "move the application to the other node",
    "start": "start the application again after stop",
    "stop": "stop the application on whichever node runs it (of a farm: on both)",
    "restart": "restart the application on the node that runs it (of a farm: on this node)",
    "drain": "of a farm: let this node take no new connections and keep those that it has",
    "hold": "of a mirror: let no node take over unasked, until resume",
    "resume": "of a mirror: end hold; of a farm: end the draining of this node",
    "resync": "compare and copy everything again, from the primary to the secondary",
    "verify": "compare both nodes' files while the application works; the status shows what differs",
    "repair": "the same, and give the secondary what the primary has where they differ",
    "force-primary": "make this node the primary although it cannot know that its data is the newest",
}
CALL_TIMEOUT = 5.0
DONE, FAILED, USAGE, NOT_FOUND, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 130
COMPLETION = {
    "bash": """_twinhullctl() {
    local words
    words=$(twinhullctl __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}")
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _twinhullctl twinhullctl
""",
    "zsh": """#compdef twinhullctl
_twinhullctl() { compadd -- ${(f)"$(twinhullctl __complete "${(@)words[2,CURRENT-1]}")"} }
compdef _twinhullctl twinhullctl
""",
}


class CommandError(Exception):
    """The command failed; the text says why and what to do."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="twinhullctl", description=__doc__)
    top.add_argument("--socket", help="the sidecar's control socket")
    top.add_argument("--module", metavar="NAMESPACE/NAME", help="the module, on a node that has several")
    commands = top.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="show the module's state on this node")
    status.add_argument("-w", "--watch", action="store_true", help="go on showing each change")
    events = commands.add_parser("events", help="show the last 50 events on this node")
    for name, text in ACTIONS.items():
        commands.add_parser(name, help=text)
    force = commands.choices["force-primary"]
    force.add_argument(
        "--discard-peer",
        action="store_true",
        help="what only the other node has goes to its quarantine folder",
    )
    force.add_argument("-y", "--yes", action="store_true", help="do not ask")
    for command in commands.choices.values():
        command.add_argument("-o", "--output", choices=("text", "json"), default="text")
        if command not in (status, events):
            command.add_argument("--no-wait", action="store_true", help="return once the order is accepted")
            command.add_argument(
                "--timeout", type=float, default=120.0, help="seconds to wait for the outcome"
            )
    script = commands.add_parser("completion", help="a script for the shell")
    script.add_argument("shell", choices=sorted(COMPLETION))
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 failed or refused, 2 wrong usage or not confirmed, 3 no sidecar that
    answers, 4 not done within --timeout, 130 interrupted.
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["__complete"]:
        print("\n".join(candidates(words[1:])))
        return DONE
    arguments = parser().parse_args(words)
    if arguments.command == "completion":
        print(COMPLETION[arguments.shell], end="")
        return DONE
    try:
        path = location.find_socket(arguments.socket, arguments.module)
        return asyncio.run(_run(arguments, path))
    except (CommandError, location.LocationError) as error:
        print(f"twinhullctl: {error}", file=sys.stderr)
        return error.code if isinstance(error, CommandError) else NOT_FOUND
    except grpc.aio.AioRpcError as error:
        print(f"twinhullctl: the sidecar does not answer: {error.details()}", file=sys.stderr)
        return NOT_FOUND
    except KeyboardInterrupt:
        return INTERRUPTED


def candidates(before: list[str]) -> list[str]:
    """What may follow these words: a command, else its options."""
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    command = next((word for word in before if word in commands.choices), None)
    if command is None:
        return sorted(commands.choices)
    actions = commands.choices[command]._actions
    choices = {option: action.choices for action in actions for option in action.option_strings}
    if found := choices.get(before[-1]):
        return sorted(found)
    positional = [
        str(choice) for action in actions if not action.option_strings for choice in action.choices or ()
    ]
    return positional or sorted(option for option in choices if option.startswith("--"))


async def _confirm(connection: Connection) -> None:
    """Say what may be lost and ask, when there is somebody to ask. Raises CommandError."""
    status = await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=CALL_TIMEOUT)
    peer = status.peer
    heard = f"is heard ({peer.role})" if peer.heard else f"is silent for {peer.silent_seconds:.0f} s"
    print(
        f"{status.node} will serve {status.module} with the data that it has.\n"
        f"  {status.node} is {status.role}: {status.reason}\n"
        f"  {peer.node or 'its peer'} {heard}\n"
        "Acknowledged writes that only the other node has will not be there.\n"
        f"Type this node's name ({status.node}) to go on: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if (await asyncio.to_thread(sys.stdin.readline)).strip() != status.node:
        raise CommandError("not confirmed, nothing was done", USAGE)


async def _run(arguments: argparse.Namespace, path: Path) -> int:
    async with connect_socket(str(path)) as connection:
        if arguments.command == "status":
            if arguments.watch:
                async for status in connection.sidecar.WatchStatus(pb.StatusRequest()):
                    _print_status(status, arguments.output)
            else:
                status = await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=CALL_TIMEOUT)
                _print_status(status, arguments.output)
            return 0
        if arguments.command == "events":
            status = await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=CALL_TIMEOUT)
            _print_events(status, arguments.output)
            return DONE
        if arguments.command == "force-primary" and not arguments.yes and sys.stdin.isatty():
            await _confirm(connection)
        request = pb.OrderRequest(
            action=arguments.command,
            user=os.environ.get("SUDO_USER") or os.environ.get("USER") or "administrator on the node",
            discard_peer=getattr(arguments, "discard_peer", False),
            id=uuid.uuid4().hex,
        )
        reply = await connection.sidecar.Order(request, timeout=CALL_TIMEOUT)
        if not reply.accepted:
            raise CommandError(reply.message)
        if arguments.no_wait:
            _print_outcome(
                pb.LastOrder(id=reply.id, action=request.action, state="running"), arguments.output
            )
            return 0
        try:
            async with asyncio.timeout(arguments.timeout):
                async for status in connection.sidecar.WatchStatus(pb.StatusRequest()):
                    last = status.last_order
                    if last.id == reply.id and last.state in ("done", "failed"):
                        _print_outcome(last, arguments.output)
                        return 0 if last.state == "done" else 1
        except TimeoutError:
            message = f"{arguments.command} is accepted but not done after {arguments.timeout:g} s"
            raise CommandError(f"{message}; see `twinhullctl status`", TIMED_OUT) from None
        raise CommandError("the sidecar closed the connection before the order was done")


def _print_outcome(last: pb.LastOrder, output: str) -> None:
    if output == "json":
        print(json.dumps(MessageToDict(last, preserving_proto_field_name=True)))
    else:
        print(f"{last.action}: {last.state}" + (f": {last.message}" if last.message else ""))


def _print_events(status: pb.Status, output: str) -> None:
    for event in status.events:
        if output == "json":
            print(json.dumps(MessageToDict(event, preserving_proto_field_name=True)))
        else:
            moment = datetime.datetime.fromtimestamp(event.time).isoformat(sep=" ", timespec="milliseconds")
            print(f"{moment}  {event.type:<8} {event.code:<22} {event.message}")


def _print_status(status: pb.Status, output: str) -> None:
    if output == "json":
        fields = MessageToDict(
            status, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(fields), flush=True)
    else:
        print("\n".join(describe(status)), flush=True)


def _describe_sync(sync: pb.SyncProgress) -> str:
    if not sync.bytes_total and not sync.files_total:
        return f"{sync.bytes_done} bytes, {sync.files_done} files, all in all not counted yet"
    done = f"{sync.bytes_done} of {sync.bytes_total} bytes, {sync.files_done} of {sync.files_total} files"
    return f"{done}, about {sync.seconds_left:.0f} s left" if sync.HasField("seconds_left") else done


def describe(status: pb.Status) -> list[str]:
    """The status as lines for a person."""
    lines = [
        f"module       {status.module or '(unknown)'} on {status.node}",
        f"role         {status.role}: {status.reason}",
    ]
    if status.HasField("farm"):
        lines += _describe_farm(status.farm)
    else:
        synced = "in sync" if status.in_sync else "not in sync"
        lines.append(f"data         generation {status.generation or 'none'}, {synced}")
    if status.HasField("sync"):
        sync = status.sync
        lines.append(f"resync       {_describe_sync(sync)}")
    if status.HasField("verification"):
        lines += _describe_verification(status.verification)
    application = status.application
    detail = f" ({application.detail})" if application.detail else ""
    ready = ", ready" if application.ready else ""
    lines.append(f"application  {application.phase}{ready}, {application.restarts} restarts{detail}")
    for vip in status.virtual_ips:
        where = f"held on {vip.interface}" if vip.held else "not held here"
        lines.append(f"virtual IP   {vip.address} {where}" + (f": {vip.problem}" if vip.problem else ""))
    peer = status.peer
    if peer.node:
        heard = f"heard {peer.silent_seconds:.1f} s ago, {peer.role}" if peer.heard else "not heard"
        lines.append(f"peer         {peer.node} {heard}")
        lines += [f"  link       {link.name} {'up' if link.up else 'down'}" for link in peer.links]
    if status.last_order.id:
        order = status.last_order
        lines.append(
            f"last order   {order.action} {order.state}" + (f": {order.message}" if order.message else "")
        )
    if status.failover_held:
        lines.append("failover     held by order: no node takes over unasked; `twinhullctl resume` ends that")
    lines += [f"problem      {item.field}: {item.message}; {item.mend}" for item in status.problems]
    return lines


def _describe_verification(known: pb.Verification) -> list[str]:
    compared = f"{known.files} files, {known.bytes} bytes compared"
    outcome = "running" if known.running else known.stopped or "complete"
    if known.resync:
        outcome += ", a full resynchronisation repairs the rest"
    repaired = f", {known.repaired} repaired" if known.repair else ""
    lines = [f"comparison   {outcome}: {compared}, {known.found} differences{repaired}"]
    for one in known.differences:
        place = f" {one.offset}+{one.length}" if one.length else ""
        mended = ", repaired" if one.repaired else ""
        detail = f": {one.detail}" if one.detail else ""
        lines.append(f"  differs    {one.volume}/{one.path} {one.what}{place}{mended}{detail}")
    return lines


def _describe_farm(farm: pb.Farm) -> list[str]:
    announces = ", announces the addresses" if farm.announcing else ""
    draining = ", draining by order" if farm.draining else ""
    lines = [
        f"share        {farm.share:.0%} of the clients, {farm.connections} connections{announces}{draining}"
    ]
    for one in farm.checkers:
        verdict = "passes" if one.passing else "fails"
        lines.append(f"checker      {one.name} {verdict}" + (f": {one.detail}" if one.detail else ""))
    return lines


if __name__ == "__main__":
    sys.exit(main())
