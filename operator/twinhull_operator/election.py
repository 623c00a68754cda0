"""Which of several operators acts, decided by a Lease (coordination.k8s.io) as client-go's leader election does. Pure.

A claim is believed to be alive as long as it *changes*, by this process's own clock: the times in the Lease are for
people, so clocks that differ do no harm. Whoever acts stops ``LEASE - HOLD`` seconds before another may begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from twinhull_operator.module import Object

LEASE: Final = 15.0
"""Seconds without a change after which another operator takes over."""
HOLD: Final = 10.0
"""Seconds from the beginning of the last successful renewal for which its holder acts."""
RETRY: Final = 2.0
"""Seconds between two looks at the Lease, or two renewals of it."""


@dataclass(frozen=True)
class Sighting:
    """A claim as it was first seen; ``at`` on this process's monotonic clock."""

    claim: tuple[str, str]
    at: float


@dataclass(frozen=True)
class Verdict:
    """What to do with the Lease now."""

    action: Literal["create", "renew", "take", "wait"]
    sighting: Sighting | None = None


def judge(lease: Object | None, me: str, seen: Sighting | None, now: float) -> Verdict:
    """``lease``: as just read, None when there is none. ``seen``: the last verdict's."""
    if lease is None:
        return Verdict("create")
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity") or ""
    if holder == me:
        return Verdict("renew")
    claim = (holder, str(spec.get("renewTime", "")))
    if not holder:
        return Verdict("take")
    if seen is None or seen.claim != claim:
        return Verdict("wait", Sighting(claim, now))
    lasts = max(LEASE, float(spec.get("leaseDurationSeconds") or 0))
    return Verdict("take" if now - seen.at > lasts else "wait", seen)


def render_claim(lease: Object | None, me: str, stamp: str) -> Object:
    """The fields of a Lease that is held by ``me`` from now on. ``stamp``: now, as the API's MicroTime."""
    before = (lease or {}).get("spec") or {}
    renewed = before.get("holderIdentity") == me
    transitions = int(before.get("leaseTransitions") or 0)
    return {
        "holderIdentity": me,
        "leaseDurationSeconds": int(LEASE),
        "acquireTime": before.get("acquireTime") or stamp if renewed else stamp,
        "renewTime": stamp,
        "leaseTransitions": transitions if renewed or not before else transitions + 1,
    }
