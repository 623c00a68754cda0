"""New connections per second and throughput: through the farm, and on the address of the very node that serves it.

Three settings. *Bare*: plain HTTP, an answer of two bytes, links without a limit; client, announcer and server
share the cores of one machine, so each packet that the announcer sends on is taken from the server. *HTTPS*: a whole
TLS handshake for each connection, as a farm's front serves them. *Gigabit*: each node sends and receives one Gbit/s at
most, as a server's card does; what the announcer sends on counts in its own limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.farm.load import Site
from bench.farm.scale import Scale
from bench.report import Run
from tests.lab.farm_harness import PORT, client

#: Who serves the client, by the farm's hash: the announcer itself, or the other node behind it.
PLACES = {"a": "client of the announcer", "b": "client of the other node"}
NEW, THROUGHPUT = "small", "big"


def speed(scale: Scale) -> Iterator[Run]:
    """All three settings; CPU time: see :meth:`bench.farm.load.Site.ask`."""
    with Site() as site:
        yield from _compared(scale, site, {NEW: "new connections", THROUGHPUT: "throughput"})
    with Site(tls=True) as site:
        yield from _compared(scale, site, {NEW: "new HTTPS connections"})
    with Site() as site:
        site.limit_links("1gbit")
        yield from _compared(scale, site, {THROUGHPUT: "throughput, 1 Gbit/s"})


def _compared(scale: Scale, site: Site, works: dict[str, str]) -> Iterator[Run]:
    """Interleaved; every second round in the opposite order."""
    # Of its own for each way: both reach the same socket of the pod, where the other's connections are still known by
    # address and port (TIME_WAIT), and their sequence numbers and timestamps mean nothing to it (RFC 6191).
    sources = {(node, "twinhull"): site.client_of(node) for node in PLACES}
    sources |= {(node, "direct"): client(number) for number, node in enumerate(PLACES, 1000)}
    ways = [(node, way) for node in PLACES for way in ("direct", "twinhull")]
    for number in range(scale.runs):
        for file, name in works.items():
            for node, way in ways if number % 2 == 0 else ways[::-1]:
                site.come_from(sources[node, way])
                address = site.farm.address if way == "twinhull" else site.lab.address(node)
                got = site.ask(
                    f"{site.scheme}://{address}:{PORT}", file, scale.seconds, keep=file == THROUGHPUT
                )
                what = f"{name}, {PLACES[node]}"
                done = got.volume / 1e6 if file == THROUGHPUT else got.requests
                yield Run(what, way, "MB/s" if file == THROUGHPUT else "1/s", done / got.seconds)
                unit = "us/MB" if file == THROUGHPUT else "us each"
                yield Run(f"{what}: CPU", way, unit, got.cpu * 1e6 / done)
