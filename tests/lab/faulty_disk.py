"""Disks of a node that fail in ways that this kernel offers without device mapper and fault injection.

====================  ==========================================================================================
what it meets         how it comes about
====================  ==========================================================================================
``ENOSPC``            a small ext4 (:class:`tests.lab.disk.Disk`) that is full
``EDQUOT``            a btrfs whose qgroup has a limit (the kernel knows no quota format of ext4 and xfs)
``EIO`` of writes     ext4 on a thin image in a tmpfs that has no room for further blocks: what is written back fails
``EIO`` of all        EXT4_IOC_SHUTDOWN (:meth:`tests.lab.disk.Disk.cut`)
``EROFS``             an error that ext4 finds in itself (``trigger_fs_error``), with ``errors=remount-ro``
====================  ==========================================================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.disk import Disk, mounts_below, run, unmounted
from tests.lab.mirrorfs_work import KEEP_SIZE, PUNCH_HOLE, fallocate


class FragileDisk(Disk):
    """An ext4 that becomes read-only once it has met an error."""

    def mount(self) -> None:
        """Mount with ``errors=remount-ro``."""
        run("tune2fs", "-e", "remount-ro", str(self.image))
        super().mount()

    def become_read_only(self) -> None:
        """As after an error that the file system finds in itself."""
        assert self._device is not None
        trigger = Path("/sys/fs/ext4") / Path(self._device).name / "trigger_fs_error"
        trigger.write_text("test")

    def mend(self) -> None:
        """Check and mount anew: what an administrator does. Nobody may use it."""
        self.unmount()
        # Exit code 1: errors were corrected.
        run("e2fsck", "-fy", str(self.image), check=False)
        self.mount()


class ThinDisk(FragileDisk):
    """An ext4 on a thinly provisioned image: once the pool is used up, no block can be written that was not before."""

    def __init__(self, pool: Path, mountpoint: Path, megabytes: int, pool_megabytes: int) -> None:
        pool.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={pool_megabytes}m", "tmpfs", str(pool))
        self._pool = pool
        try:
            super().__init__(pool / "image", mountpoint, megabytes)
        except BaseException:
            run("umount", str(pool))
            raise

    def use_up(self) -> None:
        """Somebody else takes what is left of the pool."""
        with (self._pool / "other").open("wb", buffering=0) as other:
            try:
                while True:
                    other.write(bytes(1 << 16))
            except OSError:
                return

    def lose_blocks_of(self, file: Path) -> None:
        """The pool loses the blocks of this file, and nothing else: use it up to make writing them again fail. What
        the file system itself writes goes on."""
        os.sync()
        block = os.statvfs(file).f_bsize
        extents = run("filefrag", "-v", f"-b{block}", str(file))
        with self.image.open("r+b") as image:
            for first, last in re.findall(r":\s+(\d+)\.\.\s*(\d+):\s+\d+:", extents):
                length = (int(last) - int(first) + 1) * block
                fallocate(image.fileno(), PUNCH_HOLE | KEEP_SIZE, int(first) * block, length)

    def give_back(self) -> None:
        """The pool has room again."""
        (self._pool / "other").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount, and give the pool back."""
        self.unmount()
        # The kernel lets go of the image behind a detached loop device a little later.
        if self._pool in mounts_below(self._pool) and not unmounted(self._pool, tries=100):
            run("umount", "-l", str(self._pool))


class QuotaDisk:
    """A btrfs whose files may take ``limit`` MiB."""

    def __init__(self, image: Path, mountpoint: Path, limit: int) -> None:
        self._mountpoint = mountpoint
        with image.open("wb") as file:
            file.truncate(128 << 20)
        run("mkfs.btrfs", "-q", str(image))
        mountpoint.mkdir(parents=True, exist_ok=True)
        run("mount", "-o", "loop", str(image), str(mountpoint))
        run("btrfs", "quota", "enable", str(mountpoint))
        run("btrfs", "qgroup", "limit", f"{limit}M", str(mountpoint))
        os.sync()

    def limit(self, megabytes: int) -> None:
        """Another limit."""
        run("btrfs", "qgroup", "limit", f"{megabytes}M", str(self._mountpoint))

    def unmount(self) -> None:
        """Unmount; idempotent."""
        if self._mountpoint in mounts_below(self._mountpoint):
            run("umount", str(self._mountpoint))


@contextmanager
def fragile_disk(directory: Path, mountpoint: Path, megabytes: int = 64) -> Iterator[FragileDisk]:
    """A small disk, mounted. Whoever uses it must have ended before it is closed."""
    disk = FragileDisk(directory / f"{mountpoint.name}.img", mountpoint, megabytes)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
