"""``make demo``: PostgreSQL on two nodes loses, over and over, the node that holds both the primary and the API server.

Every step is printed with its time; ends with code 0 only if no acknowledged row was lost and both copies of the data
are equal.  The cluster stays up afterwards, to be looked at; ``make clean`` removes it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster import data, images, kind, power
from tests.cluster.client import outside_client
from tests.cluster.command import CommandError, environment, step
from tests.cluster.deployment import HOLDER_OF_API, Module, example, install_chart, move_to
from tests.cluster.failover import Failover, cut_serving_node
from tests.cluster.rows import RowsClient, committing
from tests.cluster.topology import KUBECONFIG, POSTGRES_IMAGE, REPOSITORY, VIRTUAL_IP

PASSWORD = "change-me"
"""Of the example; a demo that nobody can reach from outside needs no better one."""
PLUGIN = REPOSITORY / "operator/twinhull_operator/plugin/kubectl-twinhull"


def main() -> int:
    """Runs the demo; the exit code is 1 when anything is not as promised."""
    parser = argparse.ArgumentParser(prog="make demo ARGS=", description=__doc__)
    parser.add_argument("--cuts", type=int, default=3, help="power cuts in a row (default 3)")
    arguments = parser.parse_args()
    try:
        with kind.exclusive(), tempfile.TemporaryDirectory() as folder:
            wrong = demonstrate(arguments.cuts, Path(folder) / "rows.log")
    except (CommandError, TimeoutError, RuntimeError) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"\nThe cluster is up: export KUBECONFIG={KUBECONFIG}\n`make clean` removes it.")
    return 1 if wrong else 0


def demonstrate(cuts: int, log: Path) -> list[str]:
    """Sets up, cuts, returns, switches over; returns what was not as promised."""
    kind.up()
    images.build_postgres()
    images.load(POSTGRES_IMAGE)
    install_chart()
    with step("PostgreSQL as a MirrorModule, in sync on two nodes"):
        module = Module("postgres")
        if not module.exists():
            module.discard_data()
        Module.apply(example("postgres-mirror.yaml"))
        move_to(module, HOLDER_OF_API, timeout=300)
    print(kind.kubectl("get", "mirrormodules"))
    failovers: list[Failover] = []
    wrong: list[str] = []
    with outside_client() as namespace, committing(namespace, PASSWORD, log) as client:
        client.wait_for_commit(0)
        for number in range(1, cuts + 1):
            print(
                f"\n--- power cut {number} of {cuts}: {HOLDER_OF_API.name} has the primary and the API server ---"
            )
            failovers.append(_cut_and_return(module, client, wrong))
        wrong += client.judge()
        _report(client, failovers)
    return wrong


def _cut_and_return(module: Module, client: RowsClient, wrong: list[str]) -> Failover:
    failover = cut_serving_node(module, client)
    print(failover)
    client.stop()
    wrong += client.judge()
    client.start()
    with step("the node returns; resynchronisation under commits"):
        power.restore(failover.victim)
        module.wait_in_sync()
    _compare(module, client, wrong)
    _switch_back(module, client)
    return failover


def _compare(module: Module, client: RowsClient, wrong: list[str]) -> None:
    client.stop()
    found = data.differences(module, "data")
    print(f"    trees of both nodes: {'equal' if not found else f'{len(found)} differences'}")
    wrong += found[:5]
    client.start()
    client.wait_for_commit(time.monotonic())


def _switch_back(module: Module, client: RowsClient) -> None:
    kind.wait_ready()
    begin = time.monotonic()
    ordered = subprocess.run(
        [sys.executable, PLUGIN, "switchover", module.name],
        env=environment() | {"KUBECONFIG": str(KUBECONFIG)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(f"    kubectl twinhull switchover {module.name}: {(ordered.stdout + ordered.stderr).strip()}")
    if ordered.returncode != 0:
        raise RuntimeError("the switchover failed")
    module.wait("switchover", lambda: module.wait_in_sync() == HOLDER_OF_API)
    client.wait_for_commit(time.monotonic())
    print(f"    interruption seen by the client: {client.rows().longest_gap(begin):.2f} s")


def _report(client: RowsClient, failovers: list[Failover]) -> None:
    rows = client.rows()
    announced = ", ".join(f"{failover.vip_announced:.2f}" for failover in failovers)
    commits = ", ".join(f"{failover.first_commit:.2f}" for failover in failovers)
    print(f"\n{len(failovers)} power cuts; {len(rows.acknowledged)} rows acknowledged through {VIRTUAL_IP}")
    print(f"virtual IP announced after (s): {announced}\nfirst commit after (s):         {commits}")


if __name__ == "__main__":
    sys.exit(main())
