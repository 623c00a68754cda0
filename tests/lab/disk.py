"""A node's disk: ext4 or xfs on a loop device over a sparse image file, whose power can be cut.

The cut is EXT4_IOC_SHUTDOWN (include/uapi/linux/ext4.h) or XFS_IOC_GOINGDOWN (fs/xfs/libxfs/xfs_fs.h), which have the
same number, without a flush of the log: from that call on the file system writes nothing more, not even its journal,
so what was only in the page cache is lost, as with a real cut. Mounting again replays the journal.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

IOC_SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125  # _IOR('X', 125, __u32)
GOING_FLAGS_NOLOGFLUSH = 2

#: How each file system is made: nothing is written beforehand, the image stays sparse.
MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-K"),
}
#: Another mount namespace that was made meanwhile may hold on to the mount of before the cut. Nothing is written
#: through that any more, but xfs would refuse a second one with the same UUID.
OPTIONS = {"ext4": "defaults", "xfs": "nouuid"}
#: Smallest size in MiB (mkfs.xfs refuses less).
SMALLEST = {"ext4": 64, "xfs": 300}


def kernel_has(file_system: str) -> bool:
    """Whether the running kernel can mount it, once the module is loaded if it is one."""
    if shutil.which(MAKE[file_system][0]) is None:
        return False
    subprocess.run(["modprobe", "--quiet", file_system], capture_output=True, check=False)
    known = Path("/proc/filesystems").read_text().split()
    return file_system in known


def run(*argv: str, check: bool = True) -> str:
    """Run a command; raises with its output when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def mounts_below(path: Path) -> list[Path]:
    """Mount points at or below ``path``, deepest last mounted first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point == path or path in point.parents:
            found.append(point)
    return found[::-1]


def unmounted(point: Path, *options: str, tries: int = 50) -> bool:
    """Unmount; whether it succeeded: what is busy is tried again each tenth of a second."""
    for _ in range(tries):
        run("umount", *options, str(point), check=False)
        if point not in mounts_below(point):
            return True
        time.sleep(0.1)
    return False


class Disk:
    """One file system, mounted at ``mountpoint`` while the node has power."""

    def __init__(self, image: Path, mountpoint: Path, megabytes: int, file_system: str = "ext4") -> None:
        self.image = image
        self.file_system = file_system
        self.mountpoint = mountpoint
        self._device: str | None = None
        with image.open("wb") as file:
            file.truncate(max(megabytes, SMALLEST[file_system]) << 20)
        run(*MAKE[file_system], str(image))
        mountpoint.mkdir(parents=True)

    def mount(self) -> None:
        """Mount; after a cut this replays the journal."""
        self._device = run("losetup", "--find", "--show", str(self.image)).strip()
        run(
            "mount",
            "-t",
            self.file_system,
            "-o",
            OPTIONS[self.file_system],
            self._device,
            str(self.mountpoint),
        )

    def cut(self) -> None:
        """Lose power: nothing more reaches the disk."""
        descriptor = os.open(self.mountpoint, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, IOC_SHUTDOWN, struct.pack("I", GOING_FLAGS_NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmount this disk and everything mounted below it; idempotent."""
        for point in mounts_below(self.mountpoint):
            lazy = ["-l"] if point != self.mountpoint else []
            if not unmounted(point, *lazy):
                raise RuntimeError(f"{point} stays busy")
        if self._device is not None:
            run("losetup", "--detach", self._device)
            self._device = None
