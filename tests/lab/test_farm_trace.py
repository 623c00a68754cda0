"""The frames of one connection: the client's address is kept, and the other node answers the client directly."""

from __future__ import annotations

from tests.lab.farm_harness import Farm, FarmLab, ask_many, ask_tcp, client, farm_lab
from tests.lab.farm_trace import traced
from tests.lab.netns import CLIENT
from tests.lab.report import figure
from tests.lab.vip_harness import mac

__all__ = ["farm_lab"]


def test_a_trace_of_a_connection_that_the_other_node_serves(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    source = next(one for one in map(client, range(1, 100)) if "b" in ask_many(farm_lab, farm.address, [one]))
    with traced(farm_lab, (CLIENT, "a", "b"), farm.address) as trace:
        # The application says whom it sees.
        assert ask_tcp(farm_lab, farm.address, source).startswith(f"b {source} ")
    figure(f"farm, a connection of {source} that b serves, a announces:\n{trace.text()}")
    macs = {place: mac(farm_lab, place) for place in (CLIENT, "a", "b")}
    requests = [one for one in trace.frames if one.target.startswith(f"{farm.address}:")]
    replies = [one for one in trace.frames if one.source.startswith(f"{farm.address}:")]
    at_b = [one for one in requests if one.where == "b"]
    assert at_b
    assert all(one.arrives and one.from_mac == macs["a"] and one.to_mac == macs["b"] for one in at_b)
    assert {one.source.partition(":")[0] for one in requests} == {source}
    assert {one.where for one in replies} == {"b", CLIENT}
    assert all((one.from_mac, one.to_mac) == (macs["b"], macs[CLIENT]) for one in replies)
    assert {one.target.partition(":")[0] for one in replies} == {source}
