"""An idle sidecar, primary or secondary, stays under 80 MiB."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.pair import pair_of_nodes
from tests.lab.report import figure

LIMIT_KIB = 80 * 1024


def test_an_idle_sidecar_is_small() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        for name, node in pair.nodes.items():
            assert node.sidecar is not None
            text = Path(f"/proc/{node.sidecar.pid}/status").read_text()
            resident = int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0])
            figure(f"{name} ({node.role()}): {resident / 1024:.1f} MiB resident")
            assert resident < LIMIT_KIB
