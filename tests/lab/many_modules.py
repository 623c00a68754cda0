"""Many modules on a real API server with the operator as a process, and a sidecar for each that answers it.

``python -m tests.lab.many_modules`` measures: how soon one change is reconciled, how often the API server is asked
while nothing happens, and the operator's memory (``make bench-operator``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.api_server import ApiServer, furnish, running
from tests.lab.operator_process import NAMESPACE, eventually, grant_rights, operator, start_sidecar
from tests.lab.test_resource_rules import manifest
from twinhull_operator.constants import ANNOTATION_CONFIG
from twinhull_sidecar.api import sidecar_pb2 as pb

PLACE = "default"
NODES = {"node-a": "127.0.0.11", "node-b": "127.0.0.12"}
USER = f"system:serviceaccount:{NAMESPACE}:twinhull"
POLL = 0.02


@dataclass
class Site:
    """The modules ``m0`` to ``mN`` in one namespace."""

    server: ApiServer
    directory: Path
    count: int
    applied: dict[str, dict[str, Any]] = field(default_factory=dict)

    def apply(self, *numbers: int, **spec: Any) -> None:
        """Create or change modules."""
        made = []
        for number in numbers:
            one = manifest(
                f"m{number}",
                virtualIPs=[{"address": f"10.77.{number // 200}.{number % 200 + 10}"}],
                **spec,
            )
            one["metadata"]["namespace"] = PLACE
            made.append(one)
        self.server.kubectl(
            "apply",
            "--server-side",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}),
        )

    def modules(self) -> dict[str, dict[str, Any]]:
        """All modules by name."""
        return {
            item["metadata"]["name"]: item for item in self.server.get("mirrormodules", "-n", PLACE)["items"]
        }

    def configured(self, number: int) -> str:
        """The hash of the configuration that the module's DaemonSet has."""
        found = self.server.get("daemonset", f"m{number}", "-n", PLACE)
        return str(found["spec"]["template"]["metadata"]["annotations"][ANNOTATION_CONFIG])

    async def start_sidecars(self, stack: AsyncExitStack) -> None:
        """One on each node for each module: the first serves, the second follows."""
        modules = await asyncio.to_thread(self.modules)
        for name, module in modules.items():
            own = self.directory / name
            own.mkdir()
            for node, address in NODES.items():
                interface, script = await start_sidecar(self.server, module, node, address, own)
                stack.push_async_callback(interface.stop, 0)
                peer = next(other for other in NODES if other != node)
                first = node == "node-a"
                await script.say(
                    role="Primary" if first else "Secondary",
                    in_sync=True,
                    application=pb.Application(phase="Running", ready=first),
                    peer=pb.Peer(node=peer, heard=True, role="Secondary" if first else "Primary"),
                )

    def protected(self) -> int:
        """How many modules' status says that either node may fail."""
        return sum(
            any(
                c["type"] == "Degraded" and c["status"] == "False"
                for c in m.get("status", {}).get("conditions") or ()
            )
            for m in self.modules().values()
        )

    async def change(self, number: int, seconds: int) -> float:
        """Change a module's detection timeout; the seconds until its DaemonSet has the new configuration.

        By the API server's own log: from the answer to the one to the answer to the other.
        """
        before = await asyncio.to_thread(self.configured, number)
        began = time.monotonic()
        patch = json.dumps({"spec": {"failover": {"detectionTimeout": f"{seconds}s"}}})
        name = f"m{number}"
        await asyncio.to_thread(
            self.server.kubectl, "patch", "mirrormodule", name, "-n", PLACE, "--type=merge", "-p", patch
        )
        while await asyncio.to_thread(self.configured, number) == before:
            if time.monotonic() - began > 60:
                raise TimeoutError(f"{name} was not reconciled within 60 s")
            await asyncio.sleep(POLL)
        answered: dict[str, datetime.datetime] = {}
        for entry in self.requests():
            reference = entry.get("objectRef") or {}
            own = reference.get("name") == name and not reference.get("subresource")
            if own and entry["verb"] == "patch" and "dryRun" not in entry["requestURI"]:
                answered[reference["resource"]] = datetime.datetime.fromisoformat(entry["stageTimestamp"])
        return (answered["daemonsets"] - answered["mirrormodules"]).total_seconds()

    def asked(self) -> Counter[str]:
        """What the operator asked the API server so far: verb and kind; watches count when they end."""
        counts: Counter[str] = Counter()
        for entry in self.requests():
            if entry["user"]["username"] == USER:
                reference = entry.get("objectRef") or {}
                counts[f"{entry['verb']} {reference.get('resource', entry['requestURI'])}"] += 1
        return counts

    def requests(self) -> Iterator[dict[str, Any]]:
        """The API server's log of requests that have ended."""
        with (self.directory / "audit.log").open() as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # the last one may be half written
                    yield json.loads(line)


def resident(pid: int) -> int:
    """A process's memory in bytes, without what is swapped out."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def measure(count: int, quiet: float, changes: int, directory: Path) -> dict[str, Any]:
    """The whole course; the figures by name."""
    figures: dict[str, Any] = {"modules": count}
    with running(directory, audited=True) as server:
        await asyncio.to_thread(furnish, server)
        site = Site(server, directory, count)
        rights = await asyncio.to_thread(grant_rights, server, directory)
        with operator(rights, directory / "operator.log") as process:
            began = time.monotonic()
            await asyncio.to_thread(site.apply, *range(count))
            await eventually(lambda: len(server.names("daemonsets", PLACE)) == count, 600)
            figures["seconds until all are made"] = round(time.monotonic() - began, 1)
            async with AsyncExitStack() as stack:
                began = time.monotonic()
                await site.start_sidecars(stack)
                await eventually(lambda: site.protected() == count, 600)
                figures["seconds until all sidecars are heard"] = round(time.monotonic() - began, 1)
                await asyncio.sleep(5)
                asked, used, began = site.asked(), cpu(process.pid), time.monotonic()
                await asyncio.sleep(quiet)
                passed = time.monotonic() - began
                more = site.asked() - asked
                figures["requests per minute while nothing happens"] = round(60 * more.total() / passed, 1)
                figures["of these"] = dict(more.most_common(6))
                figures["processor while nothing happens, percent of one"] = round(
                    100 * (cpu(process.pid) - used) / passed, 1
                )
                asked = site.asked()
                took = sorted(
                    [await site.change(number % count, 4 + number % 5) for number in range(changes)]
                )
                figures["seconds until one change is reconciled"] = {
                    "median": round(statistics.median(took), 2),
                    "longest": round(took[-1], 2),
                }
                figures["requests for one change"] = round((site.asked() - asked).total() / changes, 1)
                figures["memory MiB"] = round(resident(process.pid) / 2**20, 1)
    return figures


def main() -> int:
    """Entry point; exit status 1 when something was not reconciled at all."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.many_modules", description=__doc__)
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds to count requests for")
    parser.add_argument("--changes", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="twinhull-many-") as name:
        figures = asyncio.run(measure(options.modules, options.quiet, options.changes, Path(name)))
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
