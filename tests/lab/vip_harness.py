"""What the tests of virtual addresses share: a module's configuration, holders, a server that names its client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.lab.netns import Lab
from twinhull_sidecar.config import (
    Application,
    Link,
    ModuleConfig,
    Ports,
    ServicePort,
    VirtualIP,
    Volume,
    render,
)
from twinhull_sidecar.vip import VipHolder

ROOT = Path(__file__).parents[2]
PORT, TARGET_PORT = 80, 8080
VERSIONS = (4, 6)
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'sidecar'}"}

# Answers each connection and each datagram with its name and the client's address as the server sees it.
_SERVER = """
import selectors, socket, sys
name, port = sys.argv[1], int(sys.argv[2])
selector = selectors.DefaultSelector()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    opened = socket.socket(socket.AF_INET6, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        opened.listen(64)
    selector.register(opened, selectors.EVENT_READ, kind)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.data == socket.SOCK_STREAM:
            connection, client = key.fileobj.accept()
            connection.sendall(f"{name} {client[0].removeprefix('::ffff:')}".encode())
            connection.close()
        else:
            _, client = key.fileobj.recvfrom(2048)
            key.fileobj.sendto(f"{name} {client[0].removeprefix('::ffff:')}".encode(), client)
"""


def boottime() -> float:
    """Seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def module(name: str = "orders", timeout: float = 3.0, number: int = 200, port: int = PORT) -> ModuleConfig:
    """A module with one IPv4 and one IPv6 address of the lab's LAN."""
    ports = (ServicePort("tcp", port, TARGET_PORT), ServicePort("udp", port, TARGET_PORT, "UDP"))
    return ModuleConfig(
        namespace="shop",
        name=name,
        uid=f"uid-{name}",
        nodes=("a", "b"),
        links=(Link("lan", {node: Lab.address(node) for node in ("a", "b")}),),
        ports=Ports(7400, 7400, 7401),
        base_dir=f"/var/lib/twinhull/shop-{name}",
        application=Application(adapter="process", argv=("true",)),
        volumes=(Volume("data"),),
        virtual_ips=tuple(VirtualIP(Lab.virtual_ip(number, version), ports=ports) for version in VERSIONS),
        detection_timeout=timeout,
    )


@contextlib.asynccontextmanager
async def holder(
    lab: Lab, node: str, pod_ip: str | None = None, config: ModuleConfig | None = None
) -> AsyncIterator[VipHolder]:
    """A holder on a node, closed at the end."""
    config = config or module()
    with lab.inside(node):
        made = VipHolder(config, node, pod_ip, config.detection_timeout / 2)
    try:
        yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def renewed(held: VipHolder, lease: float = 1.5) -> AsyncIterator[None]:
    """Renew as the control loop does."""

    async def renew() -> None:
        while True:
            held.renew(boottime() + lease)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def holder_process(lab: Lab, node: str, pod_ip: str = "-", config: ModuleConfig | None = None) -> Any:
    """A process of its own that holds the addresses; returns when they are held."""
    process: Any = lab.spawn(
        node,
        [sys.executable, "-m", "tests.lab.vip_holder", node, pod_ip],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    process.stdin.write(render(config or module()))
    process.stdin.close()
    assert process.stdout.readline() == "held\n"
    return process


def serve(lab: Lab, where: str, port: int = TARGET_PORT) -> None:
    """Start a server on all addresses that answers ``<where> <client's address>``."""
    argv = [sys.executable, "-c", _SERVER, where, str(port)]
    process: Any = lab.spawn(where, argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"


def ask(lab: Lab, where: str, address: str, port: int = PORT, timeout: float = 2.0) -> str:
    """What the server behind ``address`` answers to a connection from ``where``; else the error's name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.inside(where), socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect((address, port))
            return connection.recv(200).decode()
        except OSError as error:
            return type(error).__name__


def has_address(lab: Lab, node: str, address: str) -> bool:
    """Whether the node's kernel has the address now."""
    found = json.loads(lab.run(node, "ip", "-j", "addr", "show", "dev", "lan0"))
    return address in {one.get("local") for one in found[0]["addr_info"]}


def has_elements(lab: Lab, node: str) -> bool:
    """Whether any port of a virtual address leads anywhere on the node now."""
    return "elements" in lab.run(node, "nft", "list", "maps")


def neighbour(lab: Lab, where: str, address: str) -> str | None:
    """The Ethernet address that ``where`` knows for ``address``."""
    found = json.loads(lab.run(where, "ip", "-j", "neigh", "show", address))
    return found[0].get("lladdr") if found else None


def mac(lab: Lab, node: str) -> str:
    """The Ethernet address of a node's interface on the LAN."""
    return str(json.loads(lab.run(node, "ip", "-j", "link", "show", "lan0"))[0]["address"])


async def until(condition: Callable[[], bool], timeout: float) -> float:
    """Wait until a condition holds; the seconds it took. Fails when it does not within ``timeout``."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, f"not within {timeout} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began
