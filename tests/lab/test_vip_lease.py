"""The kernel ends the hold of a sidecar that dies or freezes; nothing of it must be cleaned up by anybody."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.lab.netns import Lab
from tests.lab.vip_harness import (
    VERSIONS,
    boottime,
    has_address,
    has_elements,
    holder,
    holder_process,
    module,
    renewed,
    until,
)

LEASE = 1.5
#: The address's lifetime is 2 s for this lease, and the kernel may be a second late.
ADDRESS_GONE = 2 + 1.0


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP], ids=lambda value: value.name)
async def test_what_a_killed_or_frozen_holder_had_vanishes(lab: Lab, stop: signal.Signals) -> None:
    pod = lab.add_pod("a")
    process = holder_process(lab, "a", f"{pod.address4},{pod.address6}")
    await asyncio.sleep(2.5)
    assert all(has_address(lab, "a", lab.virtual_ip(version=version)) for version in VERSIONS)
    assert has_elements(lab, "a")

    process.send_signal(stop)
    await until(lambda: not has_elements(lab, "a"), LEASE + 0.3)
    addresses = [lab.virtual_ip(version=version) for version in VERSIONS]
    await until(lambda: not any(has_address(lab, "a", one) for one in addresses), ADDRESS_GONE)

    if stop == signal.SIGSTOP:
        # Awake again it must not take back what somebody else may have by now.
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "lost\n"
        await asyncio.sleep(0.5)
        assert not has_address(lab, "a", lab.virtual_ip())
        assert not has_elements(lab, "a")


async def test_the_address_stays_while_it_is_renewed(lab: Lab) -> None:
    config = module(timeout=1.0)
    async with holder(lab, "a", config=config) as held:
        await held.hold()
        async with renewed(held, 0.5):
            for _ in range(40):
                await asyncio.sleep(0.1)
                assert held.held()
                assert all(has_address(lab, "a", lab.virtual_ip(version=version)) for version in VERSIONS)


async def test_a_hold_that_was_not_renewed_in_time_is_not_revived(lab: Lab) -> None:
    async with holder(lab, "a") as held:
        await held.hold()
        await asyncio.sleep(LEASE + 0.1)
        assert not held.held()
        held.renew(boottime() + LEASE)
        await until(lambda: not has_address(lab, "a", lab.virtual_ip()), 0.4)
        assert not held.held()
        await held.hold()
        assert held.held()


async def test_what_an_earlier_life_left_is_removed_by_the_first_check(lab: Lab) -> None:
    pod = lab.add_pod("a")
    process = holder_process(lab, "a", f"{pod.address4},{pod.address6}")
    process.kill()
    async with holder(lab, "a", pod.address4 + "," + pod.address6) as successor:
        assert await successor.check() == []
        assert not any(has_address(lab, "a", lab.virtual_ip(version=version)) for version in VERSIONS)
        assert not has_elements(lab, "a")


async def test_withdrawing_and_closing_leave_nothing(lab: Lab) -> None:
    pod = lab.add_pod("a")
    async with holder(lab, "a", pod.address4 + "," + pod.address6) as held:
        await held.hold()
        assert has_elements(lab, "a")
        await held.withdraw()
        assert not held.held()
        assert not has_address(lab, "a", lab.virtual_ip())
        assert not has_elements(lab, "a")
        await held.withdraw()
    assert lab.run("a", "nft", "list", "ruleset") == ""


async def test_two_modules_side_by_side_do_not_touch_each_other(lab: Lab) -> None:
    pod = lab.add_pod("a")
    other = module("carts", number=201)
    target = f"{pod.address4},{pod.address6}"
    async with holder(lab, "a", target) as first, holder(lab, "a", target, other) as second:
        await first.hold()
        await second.hold()
        await first.withdraw()
        assert second.held()
        assert has_address(lab, "a", lab.virtual_ip(201))
        assert has_elements(lab, "a")
        await first.close()
        assert has_elements(lab, "a")


async def test_a_flushed_ruleset_is_made_anew_while_the_address_is_held(lab: Lab) -> None:
    pod = lab.add_pod("a")
    async with holder(lab, "a", f"{pod.address4},{pod.address6}") as held:
        await held.hold()
        async with renewed(held):
            lab.run("a", "nft", "flush", "ruleset")
            await until(lambda: has_elements(lab, "a"), 1.0)
            assert held.held()


async def test_the_address_is_never_the_source_of_the_nodes_own_connections(lab: Lab) -> None:
    async with holder(lab, "a") as held:
        await held.hold()
        for version in VERSIONS:
            family = f"-{version}"
            route = lab.run("a", "ip", family, "route", "get", lab.address("b", version=version))
            assert f"src {lab.address('a', version=version)} " in route + " "


async def test_what_is_wrong_with_the_node_is_named_with_its_mend(lab: Lab) -> None:
    pod = lab.add_pod("a")
    lab.run("a", "sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    async with holder(lab, "a", f"{pod.address4},{pod.address6}") as held:
        problems = await held.check()
        assert [str(problem) for problem in problems] == [
            "virtual_ips: the node does not forward IPv4, so the pod cannot be reached; "
            "sysctl -w net.ipv4.ip_forward=1"
        ]
    lab.run("a", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.lan0.disable_ipv6=1")
    async with holder(lab, "a", f"{pod.address4},{pod.address6}") as held:
        problems = await held.check()
        assert [problem.field for problem in problems] == ["virtual_ips[1].address"]
        assert "in no subnet of any interface" in problems[0].message
        await held.hold()
        assert [state.held for state in held.states()] == [True, False]
        assert "in no subnet" in held.states()[1].problem


async def test_an_address_that_the_node_has_for_good_is_not_taken(lab: Lab) -> None:
    lab.run("a", "ip", "addr", "add", f"{lab.virtual_ip()}/24", "dev", "lan0")
    async with holder(lab, "a") as held:
        problems = await held.check()
        assert "is node a's own address (on lan0)" in problems[0].message
    assert has_address(lab, "a", lab.virtual_ip())
