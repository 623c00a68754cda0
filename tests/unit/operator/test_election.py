"""Two operators and one Lease: one acts, and another one only after the first has stopped for sure."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from twinhull_operator.election import HOLD, LEASE, RETRY, Sighting, judge, render_claim
from twinhull_operator.kube import ApiError, Kube, NotLeadingError, Resource
from twinhull_operator.leadership import Leadership
from twinhull_operator.module import Object
from twinhull_operator.settings import Election, SettingsError, read_settings

STAMP = "2024-01-01T00:00:00.000000Z"


def lease(holder: str | None, renewed: str = STAMP, **spec: Any) -> Object:
    return {
        "metadata": {"resourceVersion": "1"},
        "spec": {"holderIdentity": holder, "renewTime": renewed, **spec},
    }


def test_a_lease_that_is_missing_free_or_ones_own_is_taken_at_once() -> None:
    assert judge(None, "a", None, 0.0).action == "create"
    assert judge(lease(None), "a", None, 0.0).action == "take"
    assert judge({"metadata": {}}, "a", None, 0.0).action == "take"
    assert judge(lease("a"), "a", None, 0.0).action == "renew"


def test_a_claim_lives_as_long_as_it_changes_by_ones_own_clock() -> None:
    first = judge(lease("b"), "a", None, 100.0)
    assert (first.action, first.sighting) == ("wait", Sighting(("b", STAMP), 100.0))
    assert judge(lease("b"), "a", first.sighting, 100.0 + LEASE).action == "wait"
    assert judge(lease("b"), "a", first.sighting, 100.1 + LEASE).action == "take"
    # Renewed: counted anew, whatever time it says.
    renewed = judge(lease("b", "1970-01-01T00:00:00.000000Z"), "a", first.sighting, 100.1 + LEASE)
    assert (renewed.action, renewed.sighting and renewed.sighting.at) == ("wait", 100.1 + LEASE)
    # One that was promised for longer is believed for longer.
    assert judge(lease("b", leaseDurationSeconds=60), "a", first.sighting, 150.0).action == "wait"


def test_a_claim_counts_the_changes_of_hands() -> None:
    first = render_claim(None, "a", "t1")
    assert (first["leaseTransitions"], first["acquireTime"]) == (0, "t1")
    renewed = render_claim({"spec": first}, "a", "t2")
    assert (renewed["leaseTransitions"], renewed["acquireTime"], renewed["renewTime"]) == (0, "t1", "t2")
    assert render_claim({"spec": renewed}, "b", "t3")["leaseTransitions"] == 1


class Register(Kube):
    """One Lease. ``fate`` of a request: ok, lost (never arrives), unanswered (arrives, its answer does not)."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.fate = "ok"
        self.count = 0

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """See Kube."""
        self._fail("lost", "unanswered")
        return copy.deepcopy(self.lease)

    async def create(self, resource: Resource, body: Object) -> bool:
        """See Kube."""
        self._fail("lost")
        if self.lease is not None:
            return False
        self.lease = copy.deepcopy(body)
        self._changed()
        self._fail("unanswered")
        return True

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> None:
        """See Kube."""
        self._fail("lost")
        assert self.lease is not None
        if patch["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        self.lease["spec"] |= patch["spec"]
        self._changed()
        self._fail("unanswered")

    async def close(self) -> None:
        """See Kube."""

    def _changed(self) -> None:
        assert self.lease is not None
        self.count += 1
        self.lease["metadata"]["resourceVersion"] = str(self.count)

    def _fail(self, *fates: str) -> None:
        if self.fate in fates:
            raise ApiError(0, "Unreachable", "the API server does not answer")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def member(name: str, register: Register, clock: Clock) -> Leadership:
    return Leadership(register, Election("ns", "twinhull-operator", name), clock, clock)


async def test_the_first_acts_the_second_waits_and_takes_over_when_the_first_is_dead() -> None:
    register, clock = Register(), Clock()
    a, b = member("a", register, clock), member("b", register, clock)
    for _ in range(30):
        await a.step()
        await b.step()
        assert (a.holds(), b.holds()) == (True, False)
        clock.now += RETRY
    assert a.term() == 1
    died, taken = clock.now, 0.0
    while not taken:
        clock.now += RETRY
        await b.step()
        taken = clock.now if b.holds() else 0.0
        assert not (a.holds() and b.holds())
    assert taken - died <= LEASE + 2 * RETRY
    # The first one comes back and does not act.
    await a.step()
    assert (a.holds(), a.term()) == (False, 0)


async def test_an_orderly_end_gives_the_lease_back() -> None:
    register, clock = Register(), Clock()
    a, b = member("a", register, clock), member("b", register, clock)
    await a.step()
    await b.step()
    await a.close()
    assert not a.holds()
    await b.step()
    assert b.holds()
    assert register.lease is not None
    assert register.lease["spec"]["leaseTransitions"] == 1


async def test_without_the_api_server_nobody_acts_and_a_new_term_begins_after_it() -> None:
    register, clock = Register(), Clock()
    changes: list[int] = []
    a = member("a", register, clock)
    a._on_change = lambda: changes.append(a.term())
    await a.step()
    register.fate = "lost"
    clock.now += HOLD - 1
    await a.step()
    assert a.holds()
    clock.now += 1
    assert not a.holds()
    await a.step()
    register.fate = "ok"
    await a.step()
    assert changes == [1, 0, 2]


@pytest.mark.parametrize("seed", range(100))
async def test_never_do_two_act_at_once(seed: int) -> None:
    """Lost and unanswered requests, pauses, deaths and returns at random."""
    dice, register, clock = random.Random(seed), Register(), Clock()
    members = [member(name, register, clock) for name in "ab"]
    acted = set()
    for _ in range(300):
        one = dice.randrange(2)
        if dice.random() < 0.02:
            # Dead, and started anew under its name or as a new pod.
            name = dice.choice(["ab"[one], f"{dice.random()}"])
            members[one] = member(name, register, clock)
        register.fate = dice.choices(["ok", "lost", "unanswered"], [8, 1, 1])[0]
        await members[one].step()
        holders = [index for index, each in enumerate(members) if each.holds()]
        assert len(holders) < 2
        acted |= set(holders)
        clock.now += dice.choices([0.1, RETRY, 12.0, 40.0], [4, 8, 1, 0.3])[0]
    assert acted


async def test_what_another_operator_is_to_do_is_refused_at_the_moment_of_the_request() -> None:
    kube = object.__new__(Kube)
    kube._may_act = lambda: False
    with pytest.raises(NotLeadingError, match="another operator acts"):
        await kube._request("PATCH", "/x", {})


def test_a_lease_is_named_with_its_namespace() -> None:
    image = {"TWINHULL_SIDECAR_IMAGE": "x"}
    assert read_settings(image).election is None
    named = read_settings(image | {"TWINHULL_LEASE": "ns/operator", "TWINHULL_IDENTITY": "pod-1"}).election
    assert named == Election("ns", "operator", "pod-1")
    for wrong in ("operator", "ns/", "/x", "ns/UPPER", "a/b/c"):
        with pytest.raises(SettingsError, match=r"TWINHULL_LEASE is .*; set it to NAMESPACE/NAME"):
            read_settings(image | {"TWINHULL_LEASE": wrong})
