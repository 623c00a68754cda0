"""How often one may try: a bucket of attempts that fills again, for each address and for all."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_REMEMBERED: Final = 4096


@dataclass
class _Bucket:
    left: float
    filled: float


class Throttle:
    """``burst`` attempts at once, then one each ``period`` seconds."""

    def __init__(self, burst: int, period: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._period = period
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait(self, key: str) -> float:
        """0: this attempt may be made, and counts. Else the seconds until the next one may."""
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(float(self._burst), now))
        self._buckets.move_to_end(key)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.left = min(float(self._burst), bucket.left + (now - bucket.filled) / self._period)
        bucket.filled = now
        if bucket.left < 1.0:
            return (1.0 - bucket.left) * self._period
        bucket.left -= 1.0
        return 0.0

    def forgive(self, key: str) -> None:
        """An attempt that was right does not count."""
        if (bucket := self._buckets.get(key)) is not None:
            bucket.left = min(float(self._burst), bucket.left + 1.0)


def address_key(remote: str | None) -> str:
    """Who counts as one: an IPv4 address, a /64 of IPv6."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
