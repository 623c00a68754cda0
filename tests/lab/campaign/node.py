"""One node of a case: a disk whose power can be cut, an engine, and what must be known to decide who serves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.lab.disk import Disk
from tests.lab.mirrorfs_pair import EngineProcess
from twinhull_sidecar.role.model import Settings
from twinhull_sidecar.role.verdict import Side, Verdict, verdict

#: Seconds; renewed over and over as long as the node's process lives.
LEASE = 10.0


class Node:
    """A node. ``promotable``: its last answer to that question, as long as it is still true."""

    def __init__(self, engine: EngineProcess, disk: Disk) -> None:
        self.engine = engine
        self.disk = disk
        self.powered = False
        self.promotable = False
        #: It has lost its power since it last was known to have everything.
        self.lost_power = False

    @property
    def name(self) -> str:
        """``a`` or ``b``."""
        return self.engine.name

    @property
    def mount(self) -> Path:
        """Where the application's files are while it is primary."""
        return self.engine.mount

    def boot(self) -> None:
        """Mount the disk, start the engine; it is idle."""
        self.disk.mount()
        self.engine.start()
        self.powered = True
        self.promotable = False

    def cut(self) -> None:
        """Lose power: first nothing is computed any more, then nothing is written any more. Wait with `clear`."""
        assert self.engine.process is not None
        # Between these two a flush that is under way in the kernel may still end: as if the cut came later.
        os.kill(self.engine.process.pid, signal.SIGSTOP)
        self.disk.cut()
        self.engine.process.kill()
        self.powered = False
        self.lost_power = True

    def clear(self) -> None:
        """What a node without power leaves on this machine."""
        assert self.engine.process is not None
        self.engine.process.wait(30)
        self.disk.unmount()

    def mode(self) -> str:
        """``idle``, ``primary`` or ``secondary``."""
        mode: str = self.engine.status()["mode"]
        return mode

    def serve(self, *, alone: bool) -> None:
        """Become primary."""
        self.engine.call("start_primary", alone, timeout=60)
        self.engine.call("lease", LEASE)
        self.promotable = False

    def follow(self) -> None:
        """Become secondary."""
        self.engine.call("start_secondary", timeout=60)
        self.promotable = False

    def leave(self) -> None:
        """Be no secondary any more."""
        self.promotable = bool(self.engine.call("stop_secondary", timeout=60)["promotable"])

    def side(self) -> Side:
        """What counts of it when both are up and neither serves."""
        record = self.engine.call("record")
        return Side(
            node=self.name,
            fresh=record["fresh"],
            has_data=record["has_data"],
            generation=record["generation"],
            history=tuple(record["history"]),
            alone=record["alone"],
            consistent=record["consistent"],
            last_role=record["last_role"],
            token=record["token"],
            promotable=self.promotable,
            app_failed=False,
            overrides=None,
        )


def who_starts(settings: Settings, first: Node, second: Node) -> Verdict:
    """The sidecars' own table."""
    return verdict(settings, first.side(), second.side())
