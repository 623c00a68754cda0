"""Debian root file systems by debootstrap: the base of every image where no container registry answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cluster import stamp
from tests.cluster.command import run
from tests.cluster.topology import CACHE

SUITE = "bookworm"
ROOTS = CACHE / "rootfs"


def minimal() -> Path:
    """The smallest Debian that has apt; the other root file systems are copies of it with packages added."""
    root = ROOTS / "minimal"

    def make() -> None:
        packages = CACHE / "debs"
        packages.mkdir(parents=True, exist_ok=True)
        _remove(root)
        partial = root.with_suffix(".partial")
        _remove(partial)
        run("nice", "debootstrap", "--variant=minbase", f"--cache-dir={packages}", SUITE, partial)
        # A service must not start in a chroot: its process would outlive the build.
        policy = partial / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        # Half of an image's size is documentation that nobody reads there.
        exclude = partial / "etc/dpkg/dpkg.cfg.d/without-documentation"
        exclude.write_text(
            "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n"
            "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n"
        )
        for folder in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt/archives"):
            run("find", partial / folder, "-type", "f", "!", "-name", "copyright", "-delete")
        partial.rename(root)

    stamp.once("rootfs-minimal", SUITE, root.is_dir, make, "debootstrap a minimal Debian")
    return root


def with_packages(
    name: str, packages: Sequence[str], arrange: Callable[[Path], None] | None = None, version: str = ""
) -> Path:
    """A copy of the minimal root with packages, then changed by ``arrange``; made again when any of it changes.

    Args:
        version: stands for what ``arrange`` does, which cannot be hashed.
    """
    root = ROOTS / name
    value = stamp.digest(SUITE, name, version, *packages)

    def make() -> None:
        _remove(root)
        partial = root.with_suffix(".partial")
        _remove(partial)
        run("cp", "-a", "--reflink=auto", minimal(), partial)
        _install(partial, packages)
        if arrange is not None:
            arrange(partial)
        partial.rename(root)

    minimal()
    stamp.once(f"rootfs-{name}", value, root.is_dir, make, f"install Debian packages for the {name} image")
    return root


def _install(root: Path, packages: Sequence[str]) -> None:
    # The mounts live in a mount namespace of this one command, so that nothing stays mounted, however it ends.
    script = """
set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp /etc/resolv.conf "$root/etc/resolv.conf"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" apt-get update -q
chroot "$root" apt-get install -q -y --no-install-recommends "$@"
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/debconf/*-old "$root"/var/log/*.log
"""
    run("nice", "unshare", "--mount", "--propagation=private", "sh", "-c", script, "install", root, *packages)


def _remove(root: Path) -> None:
    if root.exists():
        shutil.rmtree(root)
