"""Test doubles of the parts that need root, a disk or a peer. For unit tests of the shell only."""

from __future__ import annotations

import json
import os
from typing import Any

from twinhull_sidecar.config import Application, Link, ModuleConfig, Ports, Volume
from twinhull_sidecar.role.witness import WitnessView
from twinhull_sidecar.vip import AddressState, Problem
from twinhull_sidecar.workload import Phase, WorkloadState


def module(base_dir: str = "/nowhere", **changes: Any) -> ModuleConfig:
    """A small configuration on loopback addresses."""
    given: dict[str, Any] = {
        "namespace": "shop",
        "name": "orders",
        "uid": "u-1",
        "nodes": ("a", "b"),
        "links": (Link("lan", {"a": "127.0.0.1", "b": "127.0.0.2"}),),
        "ports": Ports(17400, 17400, 17401),
        "base_dir": base_dir,
        "application": Application(adapter="process", argv=("/bin/true",)),
        "volumes": (Volume("data"),),
    }
    return ModuleConfig(**given | changes)


class EngineDouble:
    """Remembers its calls; mode and record follow them as the real engine's do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.lease_ns = 0
        self.values: dict[str, Any] = {
            "mode": "idle",
            "connected": False,
            "in_sync": False,
            "syncing": False,
            "alone": False,
            "stream": None,
            "disconnected_ms": None,
            "error": None,
            "dropped": None,
            "progress": None,
            "counters": {},
        }
        self.facts: dict[str, Any] = {
            "fresh": True,
            "has_data": False,
            "generation": "",
            "history": [],
            "alone": False,
            "consistent": True,
            "last_role": "none",
            "token": None,
        }
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.failing[name]

    def change(self, **values: Any) -> None:
        """Change the status and signal it."""
        self.values |= values
        os.eventfd_write(self._fd, 1)

    def record(self) -> str:
        return json.dumps(self.facts)

    def initialise(self) -> None:
        self._called("initialise")
        self.facts |= {"fresh": False, "generation": "g1"}

    def start_primary(self, alone: bool) -> None:
        self._called(f"start_primary({alone})")
        self.facts |= {"alone": alone, "last_role": "primary"}
        self.change(mode="primary", alone=alone)

    def go_alone(self) -> None:
        self._called("go_alone")
        self.facts |= {"alone": True}
        self.change(alone=True)

    def stop_primary(self, timeout: float) -> str:
        self._called("stop_primary")
        self.change(mode="idle")
        return json.dumps({"clean": False, "token": None})

    def abort_primary(self) -> None:
        self._called("abort_primary")
        self.change(mode="idle")

    def start_secondary(self) -> None:
        self._called("start_secondary")
        self.change(mode="secondary")

    def stop_secondary(self) -> str:
        self._called("stop_secondary")
        self.change(mode="idle")
        return json.dumps({"promotable": True, "why": "", "token": None})

    def renew_lease(self, until_ns: int) -> None:
        self.lease_ns = max(self.lease_ns, until_ns)

    def fence(self) -> None:
        self.calls.append("fence")
        self.lease_ns = 0

    def resync(self) -> None:
        self._called("resync")

    def verify(self, repair: bool) -> None:
        self._called(f"verify({repair})")

    def allow_discard(self, peer_generation: str) -> None:
        self._called(f"allow_discard({peer_generation})")

    def status(self) -> str:
        return json.dumps(self.values)

    def event_fd(self) -> int:
        return self._fd

    def close(self) -> None:
        self.calls.append("close")
        os.close(self._fd)


class VipDouble:
    """Held or not."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.taken: list[str] = []
        self.announced_at: float | None = None
        self._held = False

    async def check(self) -> list[Problem]:
        return []

    async def probe(self, timeout: float) -> list[str]:
        self.calls.append("probe")
        return self.taken

    async def hold(self) -> None:
        self.calls.append("hold")
        self._held = True

    def renew(self, until: float) -> None:
        self.calls.append("renew")

    def held(self) -> bool:
        return self._held

    async def withdraw(self) -> None:
        self.calls.append("withdraw")
        self._held = False

    def states(self) -> list[AddressState]:
        return [AddressState("10.0.0.9", "eth0", self._held, "")]

    async def close(self) -> None:
        self.calls.append("close")


class WorkloadDouble:
    """Starts and stops at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.has_gathered = True
        self.now = WorkloadState(Phase.HELD)

    async def open(self) -> None:
        self.calls.append("open")

    def gathered(self) -> bool:
        return self.has_gathered

    async def start(self, epoch: int) -> None:
        self.calls.append(f"start({epoch})")
        self.now = WorkloadState(Phase.RUNNING, epoch)

    async def stop(self, grace: float) -> None:
        self.calls.append("stop")
        self.now = WorkloadState(Phase.HELD, self.now.epoch)

    def renew(self, until: float) -> None:
        self.calls.append("renew")

    def kill(self) -> None:
        self.calls.append("kill")
        self.now = WorkloadState(Phase.HELD, self.now.epoch)

    def state(self) -> WorkloadState:
        return self.now

    async def ready(self) -> bool:
        return self.now.phase is Phase.RUNNING

    async def close(self) -> None:
        self.calls.append("close")


class WitnessesDouble:
    """No witness is configured."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool] | str] = []

    def views(self) -> tuple[WitnessView, ...]:
        return ()

    def ask(self, generation: str, seize: bool) -> None:
        self.asked.append((generation, seize))

    def give_back(self, generation: str) -> None:
        self.asked.append(generation)
