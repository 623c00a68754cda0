"""New connections per second and throughput: through the farm, and on the address of the very node that serves it."""

from __future__ import annotations

from collections.abc import Iterator

from bench.farm.load import Site
from bench.farm.scale import Scale
from bench.report import Run
from tests.lab.farm_harness import PORT

#: Who serves the client, by the farm's hash: the announcer itself, or the other node behind it.
PLACES = {"a": "client of the announcer", "b": "client of the other node"}


def speed(scale: Scale) -> Iterator[Run]:
    """Interleaved; every second round in the opposite order. CPU time: see :meth:`bench.farm.load.Site.ask`."""
    with Site() as site:
        sources = {node: site.client_of(node) for node in PLACES}
        ways = [(node, way) for node in PLACES for way in ("direct", "twinhull")]
        for number in range(scale.runs):
            for file, unit in (("small", "1/s"), ("big", "MB/s")):
                for node, way in ways if number % 2 == 0 else ways[::-1]:
                    site.come_from(sources[node])
                    address = site.farm.address if way == "twinhull" else site.lab.address(node)
                    got = site.ask(f"http://{address}:{PORT}", file, scale.seconds, keep=file == "big")
                    what = f"{'new connections' if file == 'small' else 'throughput'}, {PLACES[node]}"
                    done = got.requests if file == "small" else got.volume / 1e6
                    yield Run(what, way, unit, done / got.seconds)
                    yield Run(
                        f"{what}: CPU", way, "us each" if file == "small" else "us/MB", got.cpu * 1e6 / done
                    )
