"""Content stamps: a step is skipped when what it was made from has not changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.cluster.command import step
from tests.cluster.topology import CACHE

IGNORED = {"__pycache__", "target", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def digest(*parts: str | Path) -> str:
    """A hash of strings and of files: each file below a path counts with its name and its content."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(b"s" + part.encode() + b"\0")
            continue
        for file in _files(part):
            total.update(b"f" + str(file.relative_to(part.parent)).encode() + b"\0")
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file() and file.suffix not in {".so", ".pyc"})
    return sorted(file for file in found if not IGNORED.intersection(file.parts))


def once(name: str, value: str, made: Callable[[], bool], make: Callable[[], None], title: str) -> bool:
    """Calls ``make`` unless the stamp ``name`` has ``value`` and ``made()`` says that the result is there.

    The stamp is written after ``make`` returned, so an interrupted step is done again.

    Returns:
        Whether ``make`` was called.
    """
    path = CACHE / "stamps" / name
    if path.is_file() and path.read_text() == value and made():
        return False
    path.unlink(missing_ok=True)
    with step(title):
        make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value)
    return True


def forget(name: str) -> None:
    """Makes ``once`` do the step of that name again."""
    (CACHE / "stamps" / name).unlink(missing_ok=True)
