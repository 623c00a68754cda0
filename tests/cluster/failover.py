"""One measured failover: cut the node that serves, follow every step until the client's next commit."""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster import power
from tests.cluster.deployment import Module, other
from tests.cluster.rows import RowsClient
from tests.cluster.topology import Node

_STEPS = (
    ("last sign of life heard", "peer_lost"),
    ("detection", "detected"),
    ("promotion", "promoted"),
    ("virtual IP announced", "vip_announced"),
    ("application started", "application_started"),
    ("application ready", "application_ready"),
)


@dataclass(frozen=True)
class Failover:
    """What happened when after a cut, in seconds since it; a step that was not reached is missing."""

    victim: Node
    steps: dict[str, float]

    @property
    def vip_announced(self) -> float:
        """Seconds from the cut to the first announcement of the virtual IP by the survivor."""
        return self.steps["virtual IP announced"]

    @property
    def first_commit(self) -> float:
        """Seconds from the cut to the acknowledgement of the first row that was sent after it."""
        return self.steps["first commit"]

    def __str__(self) -> str:
        lines = [f"  {seconds:7.3f} s  {name}" for name, seconds in self.steps.items()]
        return "\n".join([f"power cut of {self.victim.name}", *lines])


def cut_serving_node(module: Module, client: RowsClient) -> Failover:
    """Cuts the node that serves the module, and waits until the client has committed through the survivor.

    The module must be in sync, the client running.

    Raises:
        TimeoutError: no failover; the message has what the survivor says.
    """
    victim = module.wait_in_sync()
    survivor = other(victim)
    cut = power.cut(victim)
    try:
        committed = client.wait_for_commit(cut.dark, timeout=90)
    except TimeoutError as failed:
        raise TimeoutError(f"{failed}\n{module.describe()}") from failed
    module.wait(
        "the survivor's timeline",
        lambda: bool(module.status(survivor).get("last_failover", {}).get("application_ready")),
        timeout=60,
    )
    timeline = module.status(survivor)["last_failover"]
    steps = {title: timeline[key] - cut.unix for title, key in _STEPS if timeline.get(key)}
    steps["first commit"] = committed - cut.monotonic
    return Failover(victim, dict(sorted(steps.items(), key=lambda step: step[1])))
