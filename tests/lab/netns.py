"""The laboratory's network: two nodes, a client and two links, made of network namespaces on this machine.

::

      client            a                 b
        | lan0        | lan0  | direct0  | lan0 | direct0
    ====+=============+=======|==========+======|====   bridge "lan"     10.77.0.0/24  fd77::/64
                              +-----------------+       bridge "direct"  10.78.0.0/24  fd78::/64

Both bridges are in a namespace of their own (the switch), so that a link is cut where a cut happens, outside
the nodes: silently (:meth:`Lab.cut`, frames are dropped and the carrier stays) or with loss of the carrier
(:meth:`Lab.unplug`). No namespace has a default route: nothing leaves this machine.

Everything is removed by :meth:`Lab.close`; what a killed test run left is removed by the next :class:`Lab`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import itertools
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NODES = ("a", "b")
CLIENT = "client"
LINKS = ("lan", "direct")
_HOSTS = {"a": 1, "b": 2, CLIENT: 100}
_NETWORKS4 = {"lan": "10.77.0.0/24", "direct": "10.78.0.0/24"}
_NETWORKS6 = {"lan": "fd77::/64", "direct": "fd78::/64"}
_PREFIX = "th"
_CLONE_NEWNET = 0x40000000
_RUN_NETNS = Path("/run/netns")
_UNUSED_PORT = 9
_serial = itertools.count()


@dataclass(frozen=True)
class Pod:
    """A pod's network namespace behind a node, routed as the CNI plugin ``ptp`` does."""

    name: str
    node: str
    address4: str
    address6: str


class LabError(RuntimeError):
    """A command of the laboratory failed; the message has its command line and its output."""


class Lab:
    """Nodes ``a`` and ``b`` and a ``client``; use as a context manager. Needs root."""

    def __init__(self) -> None:
        # The process id in the name tells the next run whether this one is still alive.
        self._prefix = f"{_PREFIX}{os.getpid()}x{next(_serial)}"
        self._namespaces: list[str] = []
        self._processes: list[subprocess.Popen[Any]] = []
        self._pods: dict[str, int] = dict.fromkeys(NODES, 0)
        _sweep()

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- addresses ---

    @staticmethod
    def interface(link: str) -> str:
        """The name of the interface on a link, the same on each node."""
        return f"{link}0"

    @staticmethod
    def address(node: str, link: str = "lan", version: int = 4) -> str:
        """A node's own address on a link."""
        return str(_network(link, version)[_HOSTS[node]])

    @staticmethod
    def virtual_ip(number: int = 200, version: int = 4) -> str:
        """An address of the LAN that no node holds."""
        return str(_network("lan", version)[number])

    # --- commands and processes ---

    def namespace(self, where: str) -> str:
        """The name of the namespace of a node, the client, a pod or the ``switch`` (for ``ip -n``)."""
        return f"{self._prefix}-{where}"

    def command(self, where: str, argv: Sequence[str | Path]) -> list[str]:
        """``argv`` as it runs inside. Only the network differs: mounts made inside are seen outside."""
        return ["nsenter", f"--net={_RUN_NETNS / self.namespace(where)}", "--", *map(str, argv)]

    def run(self, where: str, *argv: str | Path, stdin: str | None = None, timeout: float = 30) -> str:
        """Run a command to its end, return its standard output. Raises LabError."""
        return _run(self.command(where, argv), stdin, timeout)

    def spawn(self, where: str, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a process inside; its pid is the program's own. :meth:`close` kills it if it still runs."""
        process = subprocess.Popen(self.command(where, argv), **options)
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def inside(self, where: str) -> Iterator[None]:
        """Let the calling thread, and threads started meanwhile, be inside: sockets made now stay there."""
        own = Path(f"/proc/self/task/{threading.get_native_id()}/ns/net")
        with own.open() as home, (_RUN_NETNS / self.namespace(where)).open() as target:
            _setns(target.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def reaches(self, where: str, address: str, timeout: float = 2.5) -> bool:
        """Whether ``address`` answers at all: a refused connection is an answer.

        The default timeout outlasts two ARP requests, which the kernel sends a second apart. A neighbour that
        the kernel has just given up (a resolution that began while the link was cut) is asked once more.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._connect(where, address, left)
            except ConnectionRefusedError:
                return True
            except OSError as error:
                if error.errno != errno.EHOSTUNREACH:
                    return False
                time.sleep(0.05)
            else:
                return True
        return False

    def _connect(self, where: str, address: str, timeout: float) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside(where), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout)
            probe.connect((address, _UNUSED_PORT))

    # --- links ---

    def cut(self, link: str, node: str | None = None) -> None:
        """Drop every frame on a link, silently: between the two nodes, or all to and from ``node``."""
        for source, target in self._pairs(link, node):
            self.cut_one_way(link, source, target)

    def cut_off(self, node: str) -> None:
        """Drop every frame to and from ``node`` on all links, from one moment on; :meth:`heal` each to undo."""
        pairs = [(link, *pair) for link in LINKS for pair in self._pairs(link, node)]
        elements = ", ".join(_pair(*pair) for pair in pairs)
        self.run("switch", "nft", "add", "element", "bridge", "lab", "cut", f"{{ {elements} }}")

    def cut_one_way(self, link: str, source: str, target: str) -> None:
        """Drop, silently, what ``source`` sends to ``target`` on a link."""
        self._switch("add", link, source, target)

    def heal(self, link: str, node: str | None = None) -> None:
        """Undo :meth:`cut` with the same arguments, or both ways of :meth:`cut_one_way`."""
        for source, target in self._pairs(link, node):
            # Adding first makes the deletion of an absent pair no error.
            self._switch("add", link, source, target)
            self._switch("delete", link, source, target)

    def unplug(self, link: str, node: str) -> None:
        """Pull a node's cable: its interface loses the carrier."""
        _run(["ip", "-n", self.namespace("switch"), "link", "set", _port(link, node), "down"])

    def plug(self, link: str, node: str) -> None:
        """Undo :meth:`unplug`."""
        _run(["ip", "-n", self.namespace("switch"), "link", "set", _port(link, node), "up"])

    # --- pods ---

    def add_pod(self, node: str) -> Pod:
        """A pod of its own on ``node``, reachable from both nodes and their pods, with IPv4 and IPv6."""
        self._pods[node] += 1
        number = self._pods[node]
        name = f"pod-{node}{number}"
        network, side = _HOSTS[node], f"pod{number}"
        pod = Pod(name, node, f"10.79.{network}.{number + 1}", f"fd79:{network}::{number + 1}")
        namespace, host = self._add_namespace(name), self.namespace(node)
        _batch(host, [f"link add {side} type veth peer name eth0 netns {namespace}"])
        _batch(
            host,
            [
                f"addr add 10.79.{network}.1/32 dev {side}",
                f"addr add fd79:{network}::1/128 dev {side} nodad",
                f"link set {side} up",
                f"route add {pod.address4}/32 dev {side}",
                f"route add {pod.address6}/128 dev {side}",
            ],
        )
        _batch(
            namespace,
            [
                f"addr add {pod.address4}/32 dev eth0",
                f"addr add {pod.address6}/128 dev eth0 nodad",
                "link set eth0 up",
                f"route add 10.79.{network}.1/32 dev eth0",
                f"route add default via 10.79.{network}.1 dev eth0",
                f"route add fd79:{network}::1/128 dev eth0",
                f"route add default via fd79:{network}::1 dev eth0",
            ],
        )
        return pod

    # --- construction ---

    def close(self) -> None:
        """Kill what :meth:`spawn` started, remove every namespace. May be called twice."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._processes.clear()
        while self._namespaces:
            _delete(self._namespaces.pop())

    def _build(self) -> None:
        switch = self._add_namespace("switch")
        for link in LINKS:
            # No spanning tree, no snooping: the bridge forwards from the first frame on.
            _batch(
                switch, [f"link add {link} type bridge stp_state 0 mcast_snooping 0", f"link set {link} up"]
            )
        for host in (*NODES, CLIENT):
            self._add_namespace(host)
            for link in LINKS if host in NODES else ("lan",):
                self._attach(host, link)
        for node, peer in (NODES, NODES[::-1]):
            number = _HOSTS[peer]
            _batch(
                self.namespace(node),
                [
                    f"route add 10.79.{number}.0/24 via {self.address(peer)}",
                    f"route add fd79:{number}::/32 via {self.address(peer, version=6)}",
                ],
            )
        self.run("switch", "nft", "-f", "-", stdin=_SWITCH_RULES)

    def _attach(self, host: str, link: str) -> None:
        namespace, switch = self.namespace(host), self.namespace("switch")
        name, port = self.interface(link), _port(link, host)
        _batch(namespace, [f"link add {name} type veth peer name {port} netns {switch}"])
        _batch(switch, [f"link set {port} master {link}", f"link set {port} up"])
        lines = [f"addr add {self.address(host, link)}/24 dev {name}"]
        lines += [f"addr add {self.address(host, link, 6)}/64 dev {name} nodad", f"link set {name} up"]
        _batch(namespace, lines)

    def _add_namespace(self, where: str) -> str:
        name = self.namespace(where)
        _run(["ip", "netns", "add", name])
        self._namespaces.append(name)
        with self.inside(where):
            # Duplicate address detection would delay each address by a second and more.
            for key in ("all/accept_dad", "default/accept_dad", "default/dad_transmits"):
                Path(f"/proc/sys/net/ipv6/conf/{key}").write_text("0")
            if where in NODES:
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
                Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        _batch(name, ["link set lo up"])
        return name

    def _pairs(self, link: str, node: str | None) -> list[tuple[str, str]]:
        members = [*NODES, CLIENT] if link == "lan" else [*NODES]
        if node is None:
            return list(itertools.permutations(NODES, 2))
        others = [member for member in members if member != node]
        return [(node, other) for other in others] + [(other, node) for other in others]

    def _switch(self, verb: str, link: str, source: str, target: str) -> None:
        element = f"{{ {_pair(link, source, target)} }}"
        self.run("switch", "nft", verb, "element", "bridge", "lab", "cut", element)


def _pair(link: str, source: str, target: str) -> str:
    """A frame's way through the switch, as an element of the set ``cut``."""
    return f'"{_port(link, source)}" . "{_port(link, target)}"'


_SWITCH_RULES = """
table bridge lab {
    set cut {
        type ifname . ifname
    }
    chain forward {
        type filter hook forward priority 0
        iifname . oifname @cut drop
    }
}
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A laboratory of its own for one test."""
    with Lab() as built:
        yield built


def _network(link: str, version: int) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network((_NETWORKS4 if version == 4 else _NETWORKS6)[link])


def _port(link: str, host: str) -> str:
    return f"{link}-{host}"


def _run(argv: Sequence[str], stdin: str | None = None, timeout: float = 30) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _batch(namespace: str, lines: Sequence[str]) -> None:
    """Several ``ip`` commands by one process."""
    _run(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")


def _setns(descriptor: int) -> None:
    # os.setns exists since Python 3.12 only.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _delete(namespace: str) -> None:
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def _sweep() -> None:
    """Remove the namespaces of runs that were killed before they could."""
    if not _RUN_NETNS.is_dir():
        return
    for path in _RUN_NETNS.iterdir():
        match = re.fullmatch(rf"{_PREFIX}(\d+)x\d+-[-\w]+", path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            _delete(path.name)
