"""How long a farm's failover takes, beside keepalived's, for the same observer, and whose connections it costs.

A power cut: one transaction of the switch drops every frame from and to the node, then every process of it is
killed. The observer is a client that asks for the application every 20 ms, each time by a new connection. The time
runs from just before the transaction to the first answer of the survivor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from bench.farm.keepalived import KeepalivedPair
from bench.farm.scale import Scale
from bench.farm.switch import Switch
from bench.report import Run
from tests.lab.farm_harness import Clients, FarmLab, ask_tcp, client
from tests.lab.farm_sidecars import OTHER, SidecarFarm
from tests.lab.netns import CLIENT, Lab
from tests.lab.vip_harness import boottime, mac, neighbour

CONNECTIONS = 40
_LONGEST = 20.0
_ATTEMPTS = 10


class AnnouncerChangedError(RuntimeError):
    """Another node took the address before the kill: there is nothing to be measured."""


class Pair(Protocol):
    """Two nodes with one address that is served by one of them, or by both."""

    @property
    def lab(self) -> Lab: ...

    @property
    def address(self) -> str: ...

    def kill_processes(self, node: str) -> None:
        """End every process of the node at once."""

    def revive(self, node: str) -> None:
        """Boot the node again, and wait until both are well."""


Around = Callable[[Pair, str, Callable[[], float]], Iterator[Run]]


class SidecarPair:
    """A farm run by two real sidecars."""

    def __init__(self, farm: SidecarFarm) -> None:
        self._farm = farm
        self.lab, self.address = farm.lab, farm.address

    def kill_processes(self, node: str) -> None:
        """See Pair."""
        self._farm[node].kill_everything()

    def revive(self, node: str) -> None:
        """See Pair. Without the addresses, rules and connections that a boot would have ended."""
        for address in self._farm.addresses:
            if f" {address}/" in self.lab.run(node, "ip", "-o", "addr", "show"):
                self.lab.run(
                    node, "ip", "addr", "del", f"{address}/{128 if ':' in address else 32}", "dev", "lan0"
                )
        self.lab.run(node, "nft", "flush", "ruleset")
        self.lab.run(node, "conntrack", "-F")
        self._farm[node].start()
        self._farm.wait_both(60)


def failover(scale: Scale) -> Iterator[Run]:
    """Our farm at 1 s, and at 0.3 s (30 kills of 100)."""
    for timeout, kills in ((1.0, scale.kills), (0.3, math.ceil(scale.kills * 0.3))):
        with FarmLab() as lab, SidecarFarm(lab, detection_timeout=timeout) as farm:
            farm.up()
            yield from _series(SidecarPair(farm), "twinhull", f"T = {timeout:g} s", kills, _with_clients)


def others_failover(scale: Scale) -> Iterator[Run]:
    """keepalived with adverts every 1 s, its default, and every 0.1 s (20 kills of 100 each)."""
    for advert in (1.0, 0.1):
        with FarmLab() as lab, KeepalivedPair(lab, advert) as pair:
            setting = f"adverts every {advert:g} s"
            yield from _series(pair, "keepalived", setting, math.ceil(scale.kills * 0.2), _alone)


def _series(pair: Pair, system: str, setting: str, kills: int, around: Around) -> Iterator[Run]:
    with Switch(pair.lab) as switch:
        for number in range(kills):
            yield from _one(pair, switch, system, setting, client(1000 + number), around=around)


def _one(
    pair: Pair, switch: Switch, system: str, setting: str, source: str, *, around: Around
) -> Iterator[Run]:
    """One kill; begun anew where the announcer changes just before it, which the figures show."""
    work = f"failover, {setting}"
    for _ in range(_ATTEMPTS):
        dies = _announcer(pair, source)

        def cut(dies: str = dies) -> float:
            return _kill(pair, switch, dies, source)

        try:
            for run in around(pair, OTHER[dies], cut):
                yield Run(f"{work}{run.work}", system, run.unit, run.value)
        except AnnouncerChangedError:
            yield Run(f"{work}: changes of the announcer without a kill", system, "times", 1.0)
            continue
        switch.heal(dies)
        pair.revive(dies)
        return
    raise RuntimeError(f"{system}: the announcer changes again and again without a kill")


def _alone(pair: Pair, survivor: str, cut: Callable[[], float]) -> Iterator[Run]:
    yield Run("", "", "ms", cut() * 1000)


def _with_clients(pair: Pair, survivor: str, cut: Callable[[], float]) -> Iterator[Run]:
    """The same under connections that live; those of the survivor must answer again after the failover."""
    clients = Clients(pair.lab, pair.address, tcp=CONNECTIONS)
    try:
        before = clients.report()
        took = cut()
        time.sleep(1.0)
        asked = {number: one["answers"] for number, one in enumerate(clients.report())}
        time.sleep(1.0)
        after = clients.report()
        kept = [number for number, one in enumerate(before) if one["node"] == survivor]
        broken = [n for n in kept if after[n]["broken"] or after[n]["answers"] <= asked[n]]
        yield Run("", "", "ms", took * 1000)
        yield Run(
            f": the survivor's of {CONNECTIONS} connections", "", "kept", float(len(kept) - len(broken))
        )
        yield Run(f": the survivor's of {CONNECTIONS} connections", "", "broken", float(len(broken)))
    finally:
        clients.close()


def _announcer(pair: Pair, source: str) -> str:
    """Who answers for the address, as the observer's table of neighbours has it. Raises RuntimeError."""
    if not ask_tcp(pair.lab, pair.address, source).startswith(("a ", "b ")):
        raise RuntimeError("the application does not answer before the kill")
    found = neighbour(pair.lab, CLIENT, pair.address)
    return next(node for node in OTHER if mac(pair.lab, node) == found)


def _kill(pair: Pair, switch: Switch, dies: str, source: str) -> float:
    """Kill the announcer; seconds until the other answers. Raises RuntimeError when it does not."""
    survivor = OTHER[dies]
    # A neighbour's entry must be this old for a change to be heeded (arp(7), locktime).
    time.sleep(1.1)
    if (now := _announcer(pair, source)) != dies:
        raise AnnouncerChangedError(f"{now} took the address from {dies} before the kill")
    moment = boottime()
    switch.cut(dies)
    pair.kill_processes(dies)
    while True:
        began = boottime()
        answer = ask_tcp(pair.lab, pair.address, source, timeout=0.02)
        if answer.startswith(f"{survivor} "):
            return boottime() - moment
        if boottime() - moment > _LONGEST:
            raise RuntimeError(f"{survivor} does not serve after {_LONGEST:g} s: {answer}")
        time.sleep(max(0.0, 0.02 - (boottime() - began)))
