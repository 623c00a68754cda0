"""CPU time per connection of three ways to the same two nginx: directly, by the farm, by HAProxy in TCP mode.

What a balancer costs is what its way takes more than the direct one (:meth:`bench.farm.load.Site.ask` says what is
counted). Connections per second at equal CPU are in the inverse ratio of these costs.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.farm.load import PROXY_PORT, Site
from bench.farm.scale import Scale
from bench.report import Run
from tests.lab.farm_harness import PORT

TOTAL = "CPU per connection, client and server included"
OWN = "CPU per connection, what the balancer adds"


def cost(scale: Scale) -> Iterator[Run]:
    """Interleaved; every second round in the opposite order. The client's ports spread over both nodes."""
    with Site("ClientIPPort") as site:
        urls = [
            ("direct", f"http://{site.lab.address('b')}:{PORT}"),
            ("twinhull", f"http://{site.farm.address}:{PORT}"),
            ("HAProxy", f"http://{site.lab.address('a')}:{PROXY_PORT}"),
        ]
        for number in range(scale.runs):
            totals: dict[str, float] = {}
            for system, url in urls if number % 2 == 0 else urls[::-1]:
                got = site.ask(url, "small", scale.seconds, keep=False)
                totals[system] = got.cpu * 1e6 / got.requests
                yield Run(
                    "new connections, spread over both nodes", system, "1/s", got.requests / got.seconds
                )
                yield Run(TOTAL, system, "us", totals[system])
                if system == "twinhull":
                    yield Run("the two control loops", system, "% of a core", got.control / got.seconds * 100)
            for system in ("twinhull", "HAProxy"):
                yield Run(OWN, system, "us", totals[system] - totals["direct"])
