"""A farm node's process for the laboratory: the real heartbeat, the real decision, the real holder.

Started as ``python -m tests.lab.farm_node`` with a JSON object on the first line of standard input
(:class:`tests.lab.farm_harness.Farm` writes it). Each further line is a change of what the node knows of
itself: ``{"application": "ready"}``, ``{"draining": true}``, ``{"leaving": true}``. Each change of the decision
is a JSON line on standard output. What the control loop of a sidecar will do stands in :class:`Node`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import sys
import time
from typing import Any

from twinhull_sidecar.config import Application as ConfiguredApplication
from twinhull_sidecar.config import Link, ModuleConfig, Ports, ServicePort, VirtualIP
from twinhull_sidecar.farm import (
    NOTHING,
    Affinity,
    Application,
    Decision,
    FarmHolder,
    FarmMessage,
    FarmSettings,
    Memory,
    Own,
    Peer,
    Wanted,
    decide,
    nft,
    read,
)
from twinhull_sidecar.heartbeat import Heartbeat, ReceivedMessage


class Node:
    """The loop of one farm node."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._settings = settings = _settings(document)
        self._holder = FarmHolder(settings, document["pod_ip"])
        self._heartbeat = Heartbeat(_config(document, settings), settings.node, b"k" * 32, self._heard)
        if document["refuse"]:
            _refuse(f"table {document['refuse']} ")
        self._own = Own(Application(document["application"]))
        self._peer = Peer()
        self._memory = Memory(_now())
        self._wake = asyncio.Event()
        self._wanted = NOTHING
        self._said = ""

    async def run(self) -> None:
        """Decide and act until killed, or until a leave is over."""
        for problem in await self._holder.check():
            _say(problem=str(problem))
        self._heartbeat.start()
        lines = asyncio.create_task(self._read_orders())
        while True:
            decision = self._decide()
            self._publish(decision)
            await self._act(decision)
            self._holder.renew(_now() + self._settings.lease)
            if self._own.leaving and not decision.hold:
                break
            await self._pause(decision)
        # The peer acts on the farewell; what is left of the datagrams must leave the socket first.
        await asyncio.sleep(0.05)
        lines.cancel()
        self._heartbeat.close()
        await self._holder.close()

    def _decide(self) -> Decision:
        self._own = dataclasses.replace(
            self._own, lan=self._holder.lan, holding=self._holder.held(), capable=self._holder.capable
        )
        decision = decide(self._settings, self._own, self._peer, self._memory, _now())
        self._memory = decision.memory
        return decision

    def _publish(self, decision: Decision) -> None:
        message = FarmMessage(
            phase=decision.phase,
            announcing=decision.announce,
            yielding=decision.yielding,
            leaving=self._own.leaving and not decision.hold,
            capable=self._own.capable,
            reached=decision.reached,
            macs=self._holder.macs(),
            pods=self._holder.pods(),
        )
        self._heartbeat.publish(message.payload())

    async def _act(self, decision: Decision) -> None:
        message = self._peer.message
        wanted = Wanted(
            hold=decision.hold,
            announce=decision.announce,
            way=decision.way,
            peer_macs=dict(message.macs) if message else self._wanted.peer_macs,
            peer_pods=dict(message.pods) if message else self._wanted.peer_pods,
        )
        active = wanted.hold or wanted.way is not None
        if wanted != self._wanted or (active and not self._holder.held()):
            began = _now()
            try:
                await self._holder.apply(wanted)
            except OSError as error:
                _say(error=str(error))
            self._wanted = wanted
            self._tell(decision, began)

    def _tell(self, decision: Decision, began: float) -> None:
        way = decision.way.name if decision.way else None
        told = {
            "state": decision.state,
            "way": way,
            "announce": decision.announce,
            "hold": decision.hold,
            "share": round(decision.share, 3),
            "reason": decision.reason,
        }
        if json.dumps(told) != self._said:
            self._said = json.dumps(told)
            _say(at=round(_now(), 4), took=round(_now() - began, 4), **told)

    async def _pause(self, decision: Decision) -> None:
        longest = self._settings.detection_timeout / 20
        if decision.again_at is not None:
            longest = min(longest, max(0.0, decision.again_at - _now()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._wake.wait()
        self._wake.clear()

    def _heard(self, received: ReceivedMessage) -> None:
        health = self._heartbeat.links()
        heard = [one.heard_at for one in health.values() if one.heard_at is not None]
        lan = [health[name].heard_at for name in self._settings.lan_links]
        message = self._peer.message
        if received.newest:
            with contextlib.suppress(ValueError):
                message = read(received.payload)
        changed = message != self._peer.message
        self._peer = Peer(message, max(heard, default=None), max((one for one in lan if one), default=None))
        if changed:
            self._wake.set()

    async def _read_orders(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            change = json.loads(line)
            if "application" in change:
                change["application"] = Application(change["application"])
            self._own = dataclasses.replace(self._own, **change)
            self._wake.set()


def _settings(document: dict[str, Any]) -> FarmSettings:
    ports = tuple(
        ServicePort(protocol.lower(), document["port"], document["target_port"], protocol)
        for protocol in ("TCP", "UDP")
    )
    return FarmSettings(
        module=document["module"],
        nodes=("a", "b"),
        node=document["node"],
        addresses=tuple(VirtualIP(one, ports=ports) for one in document["addresses"]),
        affinity=Affinity(document["affinity"]),
        weights=document["weights"],
        detection_timeout=document["detection_timeout"],
        links=tuple(Link(one["name"], one["addresses"]) for one in document["links"]),
        lan_links=("lan",),
    )


def _config(document: dict[str, Any], settings: FarmSettings) -> ModuleConfig:
    namespace, name = settings.module.split("/")
    return ModuleConfig(
        namespace=namespace,
        name=name,
        uid=f"uid-{name}",
        nodes=settings.nodes,
        links=settings.links,
        ports=Ports(document["heartbeat_port"], 7400, 7401),
        base_dir="/nonexistent",
        application=ConfiguredApplication("process"),
        detection_timeout=settings.detection_timeout,
    )


def _refuse(part: str) -> None:
    """Let nft refuse every script with ``part``, as it does where the kernel lacks something."""
    really = nft.run

    def run(script: str, check_only: bool = False) -> None:
        if part in script and "delete table" not in script:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        really(script, check_only)

    nft.run = run


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":

    async def _main() -> None:
        # Unbuffered: what follows the first line is for the loop's own reader.
        with open(0, "rb", buffering=0, closefd=False) as lines:  # noqa: ASYNC230
            document = json.loads(lines.readline())
        await Node(document).run()

    asyncio.run(_main())
