"""A busy node: what renews leases runs first, what it starts does not."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.pair import pair_of_nodes


def policies(pid: int) -> dict[int, int]:
    """The scheduling policy of each thread of a process."""
    threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    return {thread: os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK for thread in threads}


def test_the_control_loop_is_urgent_and_neither_file_system_nor_application_is() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        node = pair[pair.wait_redundant()]
        assert node.sidecar is not None
        found = policies(node.sidecar.pid)
        assert found[node.sidecar.pid] == os.SCHED_RR
        # The loop and the one that renews the addresses.
        assert sorted(found.values()).count(os.SCHED_RR) <= 2
        assert len(found) > 4
        others = [pid for pid in node.pids() if pid != node.sidecar.pid]
        assert others
        for pid in others:
            assert set(policies(pid).values()) == {os.SCHED_OTHER}
