"""``twinhull-sidecar``: run the sidecar, answer its start-up probe, install the gate.

Imports stay inside the commands: the probe must be cheap, and ``run`` enters the node's network namespace
before anything can have started a thread (setns(2) moves the calling thread only).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import sys
from pathlib import Path

from twinhull_sidecar import location

GATE_BINARY = Path("/usr/local/lib/twinhull/gate")
CLONE_NEWNET = 0x40000000
PROBE_TIMEOUT = 2.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    environment = os.environ.get
    top = argparse.ArgumentParser(prog="twinhull-sidecar", description="The sidecar of a twinhull module.")
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run the sidecar until SIGTERM")
    run.add_argument("--config", type=Path, default=location.CONFIG, help="the module's configuration file")
    run.add_argument("--node", default=environment("NODE_NAME"), help="this node's name (or $NODE_NAME)")
    run.add_argument(
        "--tls-dir", type=Path, default=Path("/etc/twinhull/tls"), help="certificates and shared key"
    )
    run.add_argument("--netns", type=Path, help="network namespace to enter, such as /host/proc/1/ns/net")
    run.add_argument(
        "--pod-ip", default=environment("POD_IP") or None, help="where VIP:port leads (or $POD_IP)"
    )
    run.add_argument("--pod-name", default=environment("POD_NAME", ""))
    run.add_argument("--pod-namespace", default=environment("POD_NAMESPACE", ""))
    run.add_argument("--pod-uid", default=environment("POD_UID", ""))
    run.add_argument(
        "--gate-dir", type=Path, default=Path("/twinhull/gate"), help="directory of the gates' socket"
    )
    run.add_argument(
        "--gate-binary", type=Path, default=GATE_BINARY, help="the gate program (process adapter)"
    )
    run.add_argument("--cri-socket", type=Path, default=Path("/run/containerd/containerd.sock"))
    run.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))

    ready = commands.add_parser("ready", help="exit 0 when the sidecar runs (start-up probe)")
    ready.add_argument("--config", type=Path, default=location.CONFIG)

    install = commands.add_parser("install-gate", help="put the gate program into a directory")
    install.add_argument("directory", type=Path)
    install.add_argument("--gate-binary", type=Path, default=GATE_BINARY)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.command == "ready":
        return _ready(arguments.config)
    if arguments.command == "install-gate":
        return _install_gate(arguments.gate_binary, arguments.directory)
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.node:
        print("twinhull-sidecar: --node or $NODE_NAME must name this node", file=sys.stderr)
        return 2
    if arguments.netns is not None:
        try:
            enter_network_namespace(arguments.netns)
        except OSError as error:
            print(f"twinhull-sidecar: --netns {arguments.netns}: {error.strerror}", file=sys.stderr)
            return 2
    from twinhull_sidecar import journal, urgency  # noqa: PLC0415
    from twinhull_sidecar.control import startup  # noqa: PLC0415

    journal.configure(arguments.node, arguments.log_level)
    urgency.hurry()
    return startup.run(
        startup.Options(
            config=arguments.config,
            node=arguments.node,
            tls_dir=arguments.tls_dir,
            pod_ip=arguments.pod_ip,
            pod_name=arguments.pod_name,
            pod_namespace=arguments.pod_namespace,
            pod_uid=arguments.pod_uid,
            gate_dir=arguments.gate_dir,
            gate_binary=arguments.gate_binary,
            cri_socket=arguments.cri_socket,
        )
    )


def enter_network_namespace(path: Path) -> None:
    """setns(2) of the calling thread, and of every thread it starts later. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def _ready(config: Path) -> int:
    """A sidecar that waits because of a bad configuration is ready, too: restarting it would mend nothing."""
    path = location.socket_of_config(config)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PROBE_TIMEOUT)
        try:
            connection.connect(str(path))
        except OSError as error:
            print(f"twinhull-sidecar: {path}: {error.strerror or error}", file=sys.stderr)
            return 1
    return 0


def _install_gate(binary: Path, directory: Path) -> int:
    temporary = directory / f".gate.{os.getpid()}"
    try:
        temporary.write_bytes(binary.read_bytes())
        temporary.chmod(0o755)
        temporary.rename(directory / "gate")
    except OSError as error:
        print(f"twinhull-sidecar: install-gate {directory}: {error}", file=sys.stderr)
        temporary.unlink(missing_ok=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
