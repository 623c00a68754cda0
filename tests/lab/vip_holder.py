"""A process that holds virtual addresses as a sidecar does, to be killed and frozen by the tests.

Started as ``python -m tests.lab.vip_holder NODE POD_IP`` (POD_IP ``-``: none) with the module's
configuration on standard input. Holds the addresses, then renews them each 50 ms; writes ``held`` once they
are held and ``lost`` as soon as they are not held any more.
"""

from __future__ import annotations

import asyncio
import sys
import time

from twinhull_sidecar.config import parse
from twinhull_sidecar.vip import VipHolder


async def run(node: str, pod_ip: str | None) -> None:
    """Hold and renew until killed."""
    config = parse(sys.stdin.read())
    lease = config.detection_timeout / 2
    holder = VipHolder(config, node, pod_ip, lease)
    await holder.hold()
    print("held", flush=True)
    lost = False
    while True:
        await asyncio.sleep(0.05)
        holder.renew(time.clock_gettime(time.CLOCK_BOOTTIME) + lease)
        if not holder.held() and not lost:
            lost = True
            print("lost", flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], None if sys.argv[2] == "-" else sys.argv[2]))
