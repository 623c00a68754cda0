"""``VIP:port`` leads to the pod from everywhere, the client's address is kept, and moves with the address."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.lab.netns import NODES, Lab, Pod
from tests.lab.vip_harness import PORT, VERSIONS, ask, holder, module, renewed, serve

# As kube-proxy in nftables mode: services in maps at dstnat, its masquerade mark honoured at srcnat.
_KUBE_PROXY = """
table ip kube-proxy {{
    map service-ips {{
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = {{ 10.96.0.10 . tcp . 80 : jump service }}
    }}
    chain nat-prerouting {{
        type nat hook prerouting priority -100
        ip daddr . meta l4proto . th dport vmap @service-ips
    }}
    chain nat-output {{
        type nat hook output priority -100
        ip daddr . meta l4proto . th dport vmap @service-ips
    }}
    chain nat-postrouting {{
        type nat hook postrouting priority 100
        mark & 0x4000 != 0x4000 return
        mark set mark ^ 0x4000
        masquerade fully-random
    }}
    chain service {{
        ip saddr {pod} mark set mark | 0x4000
        meta l4proto tcp dnat to {pod}:8080
    }}
}}
"""


def addresses_of(pod: Pod) -> str:
    return f"{pod.address4},{pod.address6}"


def own_address(lab: Lab, pods: dict[str, Pod], where: str, version: int) -> str:
    for pod in pods.values():
        if pod.name == where:
            return pod.address4 if version == 4 else pod.address6
    return lab.address(where, version=version)


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_address_is_reached_from_everywhere(lab: Lab, version: int) -> None:
    pods = {"served": lab.add_pod("a"), "neighbour": lab.add_pod("a"), "remote": lab.add_pod("b")}
    served = pods["served"].name
    serve(lab, served)
    address = lab.virtual_ip(version=version)
    async with holder(lab, "a", addresses_of(pods["served"])) as held:
        await held.hold()
        async with renewed(held):
            for where in ("client", "b", pods["neighbour"].name, pods["remote"].name):
                answer = await asyncio.to_thread(ask, lab, where, address)
                assert answer == f"{served} {own_address(lab, pods, where, version)}", where
            # The node itself connects from the address it connects to; the pod to itself by way of the node.
            for where in ("a", served):
                assert (await asyncio.to_thread(ask, lab, where, address)).startswith(f"{served} "), where


async def test_the_ports_move_with_the_address(lab: Lab) -> None:
    pods = {node: lab.add_pod(node) for node in NODES}
    for pod in pods.values():
        serve(lab, pod.name)
    everywhere = ("client", *NODES, *(pod.name for pod in pods.values()))
    async with (
        holder(lab, "a", addresses_of(pods["a"])) as first,
        holder(lab, "b", addresses_of(pods["b"])) as second,
    ):
        await first.hold()
        assert {ask(lab, where, lab.virtual_ip()).split()[0] for where in everywhere} == {pods["a"].name}
        await first.withdraw()
        await second.hold()
        async with renewed(second):
            await asyncio.sleep(1.3)
            for version in VERSIONS:
                address = lab.virtual_ip(version=version)
                found = [await asyncio.to_thread(ask, lab, where, address) for where in everywhere]
                assert {answer.split()[0] for answer in found} == {pods["b"].name}


async def test_a_steady_stream_of_datagrams_follows_the_address(lab: Lab) -> None:
    pods = {node: lab.add_pod(node) for node in NODES}
    for pod in pods.values():
        serve(lab, pod.name)
    with lab.inside(pods["a"].name):
        stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stream.settimeout(0.2)

    def last_answer(rounds: int) -> str:
        answer = ""
        for _ in range(rounds):
            try:
                stream.sendto(b"x", (lab.virtual_ip(), PORT))
                answer = stream.recv(100).decode()
            except OSError:
                answer = ""
        return answer

    with stream:
        async with (
            holder(lab, "a", addresses_of(pods["a"])) as first,
            holder(lab, "b", addresses_of(pods["b"])) as second,
        ):
            for holding, other in ((first, second), (second, first), (first, second)):
                await holding.hold()
                async with renewed(holding):
                    name = pods["a" if holding is first else "b"].name
                    answer = await asyncio.to_thread(last_answer, 15)
                    assert answer.split()[0] == name
                    await holding.withdraw()
                assert not other.held()


async def test_kube_proxy_and_we_leave_each_other_alone(lab: Lab) -> None:
    pod = lab.add_pod("a")
    serve(lab, pod.name)
    lab.run("a", "nft", "-f", "-", stdin=_KUBE_PROXY.format(pod=pod.address4))
    lab.run("a", "ip", "route", "add", "10.96.0.0/16", "dev", "lan0")
    async with holder(lab, "a", addresses_of(pod)) as held:
        await held.hold()
        async with renewed(held):
            for where in ("a", pod.name):
                for address in ("10.96.0.10", lab.virtual_ip()):
                    assert (await asyncio.to_thread(ask, lab, where, address)).startswith(pod.name)
    assert "table ip kube-proxy" in lab.run("a", "nft", "list", "tables")


async def test_a_program_on_the_node_is_reached_by_another_port(lab: Lab) -> None:
    serve(lab, "a")
    async with holder(lab, "a") as held:
        await held.hold()
        for version in VERSIONS:
            for where in ("client", "a", "b"):
                assert ask(lab, where, lab.virtual_ip(version=version)).startswith("a ")


async def test_two_modules_with_the_same_port_each_lead_to_their_own_pod(lab: Lab) -> None:
    pods = [lab.add_pod("a"), lab.add_pod("a")]
    for pod in pods:
        serve(lab, pod.name)
    async with (
        holder(lab, "a", addresses_of(pods[0])) as first,
        holder(lab, "a", addresses_of(pods[1]), module("carts", number=201)) as second,
    ):
        await first.hold()
        await second.hold()
        assert ask(lab, "client", lab.virtual_ip(200)).startswith(pods[0].name)
        assert ask(lab, "client", lab.virtual_ip(201)).startswith(pods[1].name)
