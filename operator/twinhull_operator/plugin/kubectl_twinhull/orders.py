"""Orders to sidecars, by `kubectl exec` of twinhullctl, followed to their end."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from .kubectl import (
    CONTAINER,
    DONE,
    FAILED,
    FARMS,
    KUBECTL_FAILED,
    MIRRORS,
    NOT_FOUND,
    TIMED_OUT,
    USAGE,
    Kubectl,
    PluginError,
    find_module,
    find_pods,
    is_farm,
)

SERVING = ("Primary", "Alone")
EXEC_MARGIN = 15
POLL = 0.5
Status = dict[str, Any]


def control(kubectl: Kubectl, pod: str, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run twinhullctl in a pod's sidecar."""
    return kubectl.run("exec", pod, "-c", CONTAINER, "--", "twinhullctl", *command, timeout=timeout)


def ask_status(kubectl: Kubectl, pod: str, timeout: float = 10.0) -> Status | None:
    """A sidecar's own status, or None when it cannot be asked."""
    try:
        result = control(kubectl, pod, "status", "-o", "json", timeout=timeout)
        answer = json.loads(result.stdout) if result.returncode == 0 else None
    except (PluginError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def ask_all(kubectl: Kubectl, pods: dict[str, str]) -> dict[str, Status | None]:
    """The status of every sidecar by node."""
    return {node: ask_status(kubectl, pod) for node, pod in pods.items()}


def serves(status: Status | None) -> bool:
    """Whether a mirror's node serves."""
    return status is not None and status.get("role") in SERVING


def give_order(kubectl: Kubectl, pod: str, arguments: argparse.Namespace, *command: str) -> dict[str, Any]:
    """Give an order and wait for its outcome. Raises PluginError with the sidecar's reason."""
    wait = arguments.timeout
    result = control(
        kubectl, pod, *command, "-o", "json", "--timeout", f"{wait:g}", timeout=wait + EXEC_MARGIN
    )
    outcome: dict[str, Any] = {}
    for line in result.stdout.splitlines():
        if line.startswith("{"):
            outcome = json.loads(line)
    error = result.stderr.strip().replace("twinhullctl: ", "")
    if result.returncode == 0:
        return outcome
    if outcome.get("state") == "failed":
        raise PluginError(FAILED, outcome.get("message") or "the order failed")
    if "not done after" in error:
        raise PluginError(TIMED_OUT, error)
    if "does not answer" in error or "unable to upgrade connection" in error or "error dialing" in error:
        raise PluginError(NOT_FOUND, error)
    if "Forbidden" in error or "Unable to connect" in error:
        raise PluginError(KUBECTL_FAILED, error)
    # kubectl itself adds "command terminated with exit code 1".
    reason = "\n".join(line for line in error.splitlines() if not line.startswith("command terminated"))
    raise PluginError(FAILED, reason or "the order failed")


def wait_until(ask: Callable[[], bool], deadline: float) -> bool:
    """Whether ``ask`` says yes before the deadline (time.monotonic)."""
    while not ask():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def wait_for_primary(kubectl: Kubectl, pod: str, deadline: float) -> bool:
    """Whether the sidecar in this pod says before the deadline that it serves and its application is ready."""

    def ready() -> bool:
        status = ask_status(kubectl, pod)
        return serves(status) and is_ready(status)

    return wait_until(ready, deadline)


def is_ready(status: Status | None) -> bool:
    """Whether the application is ready."""
    return status is not None and bool(status.get("application", {}).get("ready"))


def report(arguments: argparse.Namespace, text: str, **fields: Any) -> int:
    """Tell the outcome of an order that is done."""
    print(json.dumps({"state": "done", "message": text, **fields}) if arguments.output == "json" else text)
    return DONE


def find_mirror(kubectl: Kubectl, name: str) -> dict[str, str]:
    """The pods of a MirrorModule by node. Raises PluginError."""
    kubectl.get(MIRRORS, name)
    return find_pods(kubectl, name)


def choose_node(pods: dict[str, str], arguments: argparse.Namespace) -> str:
    """The node that the user named. Raises PluginError."""
    node = str(arguments.node)
    if node not in pods:
        raise PluginError(USAGE, f"{node} is not a node of {arguments.name}: {', '.join(sorted(pods))}")
    return node


def find_serving(arguments: argparse.Namespace, statuses: dict[str, Status | None]) -> str:
    """The node that serves. Raises PluginError, which says who is what."""
    for node, status in statuses.items():
        if serves(status):
            return node
    said = "; ".join(
        f"{n} is {s['role']}: {s['reason']}" if s else f"{n} is silent" for n, s in statuses.items()
    )
    raise PluginError(NOT_FOUND, f"no node of {arguments.name} serves ({said})")


def late(arguments: argparse.Namespace, text: str) -> PluginError:
    """The order was taken, but its end is not there in time."""
    return PluginError(TIMED_OUT, f"{text}; see `kubectl twinhull status {arguments.name}`")


def switch_over(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`switchover`: the node that serves hands over in order."""
    pods = find_mirror(kubectl, arguments.name)
    old = find_serving(arguments, ask_all(kubectl, pods))
    new = next((node for node in pods if node != old), None)
    if arguments.to and arguments.to == old:
        return report(arguments, f"{arguments.name} runs on {old} already", node=old)
    if arguments.to and arguments.to != new:
        raise PluginError(
            USAGE, f"{arguments.to} is not a node of {arguments.name}: {', '.join(sorted(pods))}"
        )
    started = time.monotonic()
    outcome = give_order(kubectl, pods[old], arguments, "switchover")
    if new is not None and not wait_for_primary(kubectl, pods[new], started + arguments.timeout):
        raise late(arguments, f"{old} handed over, but the application on {new} is not ready yet")
    seconds = time.monotonic() - started
    return report(
        arguments,
        f"{arguments.name} moved from {old} to {new or 'its peer'} in {seconds:.1f} s",
        node=new,
        order=outcome,
    )


def force_primary(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`force-primary`: a waiting node serves although it cannot know that its data is the newest."""
    pods = find_mirror(kubectl, arguments.name)
    node = choose_node(pods, arguments)
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise PluginError(
                USAGE, "force-primary may lose what only the other node has; say --yes to do it"
            )
        print(explain_force(arguments, ask_all(kubectl, pods), pods), file=sys.stderr)
        confirm(node)
    extra = ["--discard-peer"] if arguments.discard_peer else []
    started = time.monotonic()
    outcome = give_order(kubectl, pods[node], arguments, "force-primary", *extra)
    if not wait_for_primary(kubectl, pods[node], started + arguments.timeout):
        raise late(arguments, f"{node} is the primary, but its application is not ready yet")
    return report(arguments, f"{arguments.name} is served by {node}", node=node, order=outcome)


def explain_force(
    arguments: argparse.Namespace, statuses: dict[str, Status | None], pods: dict[str, str]
) -> str:
    """What will happen, and what may be lost."""
    node, name = arguments.node, arguments.name
    lines = [f"{node} will serve {name} with the data that it has."]
    own = statuses.get(node)
    if own is not None:
        lines.append(f"  {node} is {own.get('role')}: {own.get('reason')}")
        if own.get("role") == "Syncing":
            lines.append(
                f"  {node} is in the MIDDLE OF A RESYNCHRONISATION: its files are a mixture of old and new."
            )
    for other in pods:
        if other == node:
            continue
        said = statuses.get(other)
        lines.append(
            f"  {other} is {said.get('role')}: {said.get('reason')}" if said else f"  {other} does not answer"
        )
    lost = "Acknowledged writes that only the other node has will not be there"
    lines.append(
        f"{lost}, and go to its quarantine folder when it returns."
        if arguments.discard_peer
        else f"{lost}. When it returns with such writes, the module is in a split brain until you choose."
    )
    return "\n".join(lines)


def confirm(word: str, what: str = "node") -> None:
    """Ask before what may do harm. Raises PluginError when the answer is not the node's (the module's) name."""
    print(f"Type the {what}'s name ({word}) to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != word:
        raise PluginError(USAGE, "not confirmed, nothing was done")


def drain_or_resume(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`drain`, `resume`: a farm's node takes no new clients, or takes them again."""
    kubectl.get(FARMS, arguments.name)
    pods = find_pods(kubectl, arguments.name)
    node = choose_node(pods, arguments)
    outcome = give_order(kubectl, pods[node], arguments, arguments.command)
    what = "takes no new clients" if arguments.command == "drain" else "takes clients again"
    return report(arguments, f"{node} {what} of {arguments.name}", node=node, order=outcome)


def start_or_stop(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`start`, `stop`: the module's application, wherever it runs; returns when it does, or does no more."""
    farm = is_farm(find_module(kubectl, arguments.name))
    pods = find_pods(kubectl, arguments.name)
    statuses = ask_all(kubectl, pods)
    answering = sorted(
        (node for node, status in statuses.items() if status), key=lambda n: not serves(statuses[n])
    )
    if not answering:
        raise PluginError(NOT_FOUND, f"no sidecar of {arguments.name} answers")
    started = time.monotonic()
    outcome = give_order(kubectl, pods[answering[0]], arguments, arguments.command)
    name, deadline = arguments.name, started + arguments.timeout
    if arguments.command == "stop":

        def stopped() -> bool:
            said = [status for status in ask_all(kubectl, pods).values() if status is not None]
            return bool(said) and all(status.get("role") == "Stopped" for status in said)

        if not wait_until(stopped, deadline):
            raise late(arguments, f"{name} was told to stop, but has not yet")
        silent = [node for node, status in statuses.items() if status is None]
        rest = f"; {' and '.join(silent)} does not answer and learns it later" if silent else ""
        return report(
            arguments, f"{name} is stopped{rest}; `kubectl twinhull start {name}` ends that", order=outcome
        )

    def up() -> bool:
        said = ask_all(kubectl, pods).values()
        if farm:
            return any(status is not None and status.get("role") == "Up" for status in said)
        return any(serves(status) and is_ready(status) for status in said)

    if not wait_until(up, deadline):
        raise late(arguments, f"{name} was told to start, but is not ready yet")
    return report(arguments, f"{name} runs ({time.monotonic() - started:.1f} s)", order=outcome)


def restart(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`restart`: of a mirror where it runs; of a farm on one node after the other, or on the named one."""
    farm = is_farm(find_module(kubectl, arguments.name))
    pods = find_pods(kubectl, arguments.name)
    if not farm:
        node = find_serving(arguments, ask_all(kubectl, pods))
        if arguments.node and arguments.node != node:
            raise PluginError(USAGE, f"{arguments.name} runs on {node}, not on {arguments.node}")
        started = time.monotonic()
        outcome = give_order(kubectl, pods[node], arguments, "restart")
        if not wait_for_primary(kubectl, pods[node], started + arguments.timeout):
            raise late(arguments, f"the application on {node} was restarted, but is not ready yet")
        return report(arguments, f"{arguments.name} was restarted on {node}", node=node, order=outcome)
    nodes = [choose_node(pods, arguments)] if arguments.node else sorted(pods)
    for node in nodes:
        started = time.monotonic()
        give_order(kubectl, pods[node], arguments, "restart")

        def up(node: str = node) -> bool:
            status = ask_status(kubectl, pods[node])
            return status is not None and status.get("role") == "Up"

        # The next one only when this one takes clients again: someone always serves.
        if not wait_until(up, started + arguments.timeout):
            raise late(arguments, f"{arguments.name} on {node} was restarted, but takes no clients yet")
    return report(arguments, f"{arguments.name} was restarted on {' and '.join(nodes)}", nodes=nodes)


def resync(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`resync`: compare and copy everything again; with --wait until both nodes are in sync."""
    pods = find_mirror(kubectl, arguments.name)
    node = find_serving(arguments, ask_all(kubectl, pods))
    started = time.monotonic()
    outcome = give_order(kubectl, pods[node], arguments, "resync")
    peer = next((other for other in pods if other != node), "its peer")
    if not arguments.wait:
        text = (
            f"{peer} is compared with {node}; `kubectl twinhull status {arguments.name}` shows how far it is"
        )
        return report(arguments, text, order=outcome)
    begun = False

    def in_sync() -> bool:
        nonlocal begun
        status = ask_status(kubectl, pods[node])
        if status is None:
            return False
        if sync := status.get("sync"):
            begun = True
            if sys.stderr.isatty():
                total = int(sync.get("bytes_total", 0))
                done = int(sync.get("bytes_done", 0))
                # The total is counted while the comparison runs.
                said = (
                    f"{100 * done // total:3d}% of {total / 2**30:.2f} GiB"
                    if total
                    else f"{done / 2**30:.2f} GiB"
                )
                print(f"\r{said:20}", end="", file=sys.stderr, flush=True)
        # A small tree may be done between two looks.
        return bool(status.get("in_sync")) and (begun or time.monotonic() > started + 4 * POLL)

    done = wait_until(in_sync, started + arguments.timeout)
    if begun and sys.stderr.isatty():
        print(file=sys.stderr)
    if not done:
        raise late(arguments, f"{peer} is not in sync with {node} yet")
    seconds = time.monotonic() - started
    return report(arguments, f"{peer} is in sync with {node} ({seconds:.0f} s)", order=outcome)
