"""The rules' text: what each way does with a packet, and that nothing goes back where it came from."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from tests.unit.farm.cases import MAC_A, MAC_B, plan
from twinhull_sidecar.farm.plan import Plan, Uplink
from twinhull_sidecar.farm.ruleset import chain_of, render, render_removal
from twinhull_sidecar.farm.ways import ALL, BOTH, CLOSED, DRAIN, LAST, PASS, SOLO, WAYS, Way

FROM_PEER = f'iifname "eth0" ether saddr {MAC_B}'


def chains(script: str) -> dict[str, list[str]]:
    """The rules of each chain of the table inet."""
    inet = script[script.index("table inet twinhull_farm_x {") :].split("\n}\n", maxsplit=1)[0]
    found: dict[str, list[str]] = {}
    for name, body in re.findall(r"chain (\S+) \{\n(.*?)    \}", inet, re.S):
        found[name] = [line.strip() for line in body.splitlines()]
    return found


def reachable(found: dict[str, list[str]], start: str) -> set[str]:
    """The chains that a packet which is in ``start`` and did not come from the peer's MAC may enter."""
    todo, seen = [start], set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [
                word
                for rule in found[name]
                for word in re.findall(r"(?:goto|jump) (\S+)", rule)
                if word in found
            ]
    return seen


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_what_the_peer_sent_is_never_sent_back(way: Way, version: int, protocol: int) -> None:
    found = chains(render(plan()))
    start = chain_of(way, version, protocol)
    for name in reachable(found, start):
        if not name.startswith(("tcp", "udp", "syn")) or name.endswith("_away"):
            continue
        for rule in found[name]:
            if rule.startswith(FROM_PEER):
                break
            # Until the peer's packets have been dealt with, nothing leads to it.
            assert "away" not in rule
            assert "peer" not in rule


@pytest.mark.parametrize(
    ("way", "last_syn", "last_datagram", "strays"),
    [
        (BOTH, "goto tcp4_away", "goto udp4_away", "goto peer4"),
        (ALL, "accept", "accept", "goto peer4"),
        (SOLO, "accept", "accept", None),
        (DRAIN, "goto tcp4_away", "goto udp4_away", "goto peer4"),
        (CLOSED, "drop", "drop", "goto peer4"),
        (LAST, "drop", "drop", None),
        (PASS, "goto tcp4_away", "goto udp4_away", "goto peer4"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_table_of_ways(way: Way, last_syn: str, last_datagram: str, strays: str | None) -> None:
    found = chains(render(plan()))
    assert found[f"syn4_{way.name}"][-1] == last_syn
    assert found[f"udp4_{way.name}"][-1] == last_datagram
    tcp = found[f"tcp4_{way.name}"]
    assert tcp[-1] == (strays or f"{FROM_PEER} accept")
    known = "ip saddr . tcp sport . ip daddr . tcp dport @tcp4 accept"
    assert (known in tcp) is (way.known_here and way.stray_to_peer)


def test_the_two_nodes_share_every_bucket_without_overlap() -> None:
    lower = "\n".join(chains(render(plan(own_range=range(20000))))["syn4_both"])
    upper = "\n".join(chains(render(plan(own_range=range(20000, 65536))))["syn4_both"])
    assert "jhash ip saddr mod 65536 seed 0x7 < 20000 accept" in lower
    assert "jhash ip saddr mod 65536 seed 0x7 >= 20000 accept" in upper


def test_a_share_of_nothing_and_of_all() -> None:
    assert "jhash" not in render(plan(own_range=range(0)))
    everything = chains(render(plan(own_range=range(65536))))
    assert "jhash" not in "\n".join(everything["syn4_both"])
    assert "accept" in everything["syn4_both"]


def test_by_port_the_port_is_hashed_too() -> None:
    script = render(plan(by_port=True))
    assert "jhash ip saddr . tcp sport mod" in script
    assert "jhash ip6 saddr . udp sport mod" in script


def test_without_the_peers_ethernet_address_nothing_is_forwarded() -> None:
    script = render(plan(uplinks=(Uplink("eth0", MAC_A, "10.0.0.1", "fd00::1"),)))
    assert "fwd to" not in script
    assert "ether daddr set" not in script
    assert MAC_B not in script


def test_without_a_lease_a_packet_for_the_farm_is_dropped() -> None:
    ingress = chains(render(plan()))["ingress4"]
    assert ingress[-2:] == [
        "ip daddr . meta l4proto . th dport vmap @ways4",
        "ip daddr . meta l4proto . th dport @services4 drop",
    ]


def test_the_sets_of_connections_outlive_a_new_script() -> None:
    script = render(plan())
    assert "flush table inet twinhull_farm_x" in script
    assert "delete table" not in script
    assert "flush set inet twinhull_farm_x tcp4" not in script
    assert "flush set inet twinhull_farm_x vips4" in script


def test_the_fallback_has_the_ports_and_nothing_else() -> None:
    script = render(plan(capable=False))
    for word in ("netdev", "table arp", "ingress", "jhash", "dynamic"):
        assert word not in script
    assert "map ports4" in script


def test_a_removal_is_no_error_where_nothing_is() -> None:
    script = render_removal("twinhull_farm_x")
    for family in ("inet", "netdev", "arp"):
        assert f"table {family} twinhull_farm_x\ndelete table {family} twinhull_farm_x\n" in script


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
@pytest.mark.parametrize(
    "one",
    [
        plan(),
        plan(services=()),
        plan(capable=False),
        plan(uplinks=()),
        plan(services=plan().services[:2]),
        plan(services=plan().services[2:], by_port=True),
        plan(own_range=range(0)),
    ],
)
def test_nft_reads_every_script(one: Plan) -> None:
    # An interface that every machine has; only checked, in a network namespace that ends with nft.
    uplinks = tuple(replace(uplink, name="lo") for uplink in one.uplinks)
    argv = ["unshare", "--net", "nft", "--check", "-f", "-"]
    script = render(replace(one, uplinks=uplinks))
    done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr or "unshare" in done.stderr:
        pytest.skip("needs root")
    assert done.returncode == 0, done.stderr
