"""Images in podman's storage: built or imported under one name, without leaving the image of that name before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cluster.command import CommandError, run, succeeds


def exists(image: str) -> bool:
    """Whether podman has an image of that name."""
    return succeeds("podman", "image", "exists", image)


def identity(image: str) -> str:
    """The image's content hash, in hexadecimal."""
    return run("podman", "image", "inspect", "--format={{.Id}}", image).strip()


def build(image: str, context: Path, *options: str, stdin: str | None = None) -> None:
    """Builds an image from the Containerfile of a directory (or from ``stdin``), in a chroot and in one layer a stage.

    ``--isolation=chroot`` needs no capability that a small machine lacks.
    """
    file = () if stdin is None else ("--file=-",)
    _replace(
        image,
        lambda: run(
            "podman", "build", "--quiet", "--isolation=chroot", "--layers=false", f"--tag={image}", *file, *options,
            context, stdin=stdin,
        ),
    )  # fmt: skip


def import_root(image: str, root: Path, changes: Sequence[str] = ()) -> None:
    """A root file system as an image of one layer; ``changes`` are lines of a Containerfile (ENV, ENTRYPOINT...)."""
    archive = root.with_suffix(".tar")
    run("tar", "--create", "--file", archive, "--directory", root, "--numeric-owner", ".")
    options = [f"--change={change}" for change in changes]
    try:
        _replace(image, lambda: run("podman", "import", "--quiet", *options, archive, image))
    finally:
        archive.unlink()


def _replace(image: str, make: Callable[[], object]) -> None:
    former = identity(image) if exists(image) else ""
    make()
    if former and identity(image) != former:
        try:
            run("podman", "rmi", former)
        except CommandError as kept:
            # A container still runs from it, or another name holds it: both are reasons to keep it.
            if "in use" not in kept.output and "must be forced" not in kept.output:
                raise
