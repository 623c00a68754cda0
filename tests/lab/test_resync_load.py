"""A resynchronisation while the application changes everything under it ends with equal trees."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.mirrorfs_pair import EnginePair, engine_pair, wait_for
from tests.lab.mirrorfs_work import (
    KEEP_SIZE,
    PUNCH_HOLE,
    RENAME_EXCHANGE,
    ZERO_RANGE,
    fallocate,
    renameat2,
)

WORKERS = 4
# Names collide and go away under the workers: what was there is gone, is another thing, would be its own parent, is a
# chain of symbolic links that ends nowhere.
EXPECTED = {
    errno.ENOENT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EINVAL,
    errno.ELOOP,
}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path, peer_timeout_ms=5000) as both:
        both.a.start()
        both.a.call("initialise")
        both.a.call("start_primary", True)
        both.a.call("lease", 10.0)
        yield both


class Worker(threading.Thread):
    """Does random operations in a tree that it shares with others, until told to stop. Names collide on purpose."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.random = random.Random(seed)
        self.stopping = False
        self.operations = 0
        self.unexpected: list[str] = []
        self._unlinked: list[int] = []

    def run(self) -> None:
        while not self.stopping:
            try:
                self._step()
            except OSError as error:
                if error.errno not in EXPECTED:
                    self.unexpected.append(repr(error))
            self.operations += 1
        for descriptor in self._unlinked:
            os.close(descriptor)

    def _directory(self) -> Path:
        return self.root.joinpath(*(f"d{self.random.randrange(4)}" for _ in range(self.random.randrange(3))))

    def _file(self) -> Path:
        return self._directory() / f"f{self.random.randrange(12)}"

    def _step(self) -> None:
        operation = self.random.choice(
            [self._write] * 6
            + [self._make_directory, self._rename, self._rename, self._exchange, self._link, self._remove]
            + [self._truncate, self._range, self._attributes, self._move_directory, self._remove_directory]
            + [self._replace, self._unlinked_file, self._symlink]
        )
        operation()

    def _write(self) -> None:
        with self._file().open("r+b" if self.random.random() < 0.6 else "wb") as file:
            file.seek(self.random.randrange(400_000))
            file.write(self.random.randbytes(self.random.randrange(1, 60_000)))

    def _make_directory(self) -> None:
        (self._directory() / f"d{self.random.randrange(4)}").mkdir()

    def _rename(self) -> None:
        self._file().rename(self._file())

    def _exchange(self) -> None:
        renameat2(os.fsencode(self._file()), os.fsencode(self._file()), RENAME_EXCHANGE)

    def _link(self) -> None:
        os.link(self._file(), self._file())

    def _symlink(self) -> None:
        self._file().symlink_to(f"f{self.random.randrange(12)}")

    def _remove(self) -> None:
        self._file().unlink()

    def _truncate(self) -> None:
        os.truncate(self._file(), self.random.randrange(400_000))

    def _range(self) -> None:
        descriptor = os.open(self._file(), os.O_RDWR)
        try:
            mode = self.random.choice([PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, KEEP_SIZE, 0])
            fallocate(descriptor, mode, 4096 * self.random.randrange(50), 4096 * self.random.randrange(1, 10))
        finally:
            os.close(descriptor)

    def _attributes(self) -> None:
        path = self._file()
        path.chmod(self.random.randrange(0o1000))
        os.chown(path, self.random.randrange(5), self.random.randrange(5))
        os.setxattr(path, f"user.n{self.random.randrange(3)}", self.random.randbytes(20))
        os.utime(path, ns=(0, self.random.randrange(1 << 60)))

    def _move_directory(self) -> None:
        (self._directory() / f"d{self.random.randrange(4)}").rename(
            self._directory() / f"d{self.random.randrange(4)}"
        )

    def _remove_directory(self) -> None:
        path = self._directory() / f"d{self.random.randrange(4)}"
        for entry in path.iterdir():
            with suppress(OSError):
                entry.unlink()
        path.rmdir()

    def _replace(self) -> None:
        """As databases do: a new file, flushed, renamed over the old one."""
        path = self._file()
        new = path.with_name(f"new{self.random.randrange(1000)}")
        with new.open("wb") as file:
            file.write(self.random.randbytes(1000))
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)

    def _unlinked_file(self) -> None:
        path = self._file()
        descriptor = os.open(path, os.O_RDWR)
        self._unlinked.append(descriptor)
        path.unlink()
        os.pwrite(descriptor, b"nobody sees this", 10)
        if len(self._unlinked) > 10:
            os.close(self._unlinked.pop(0))


def fill(root: Path, seed: int) -> None:
    """A tree that takes a while to synchronise, with the names that the workers use."""
    chance = random.Random(seed)
    for first in range(4):
        for second in range(4):
            directory = root / f"d{first}" / f"d{second}"
            directory.mkdir(parents=True, exist_ok=True)
            for index in range(12):
                size = chance.choice([0, 100, 50_000, 300_000])
                (directory / f"f{index}").write_bytes(chance.randbytes(size))


def done(workers: list[Worker]) -> int:
    """Operations of all of them."""
    return sum(worker.operations for worker in workers)


def wait_for_operations(workers: list[Worker], count: int) -> None:
    """The load goes on."""
    enough = done(workers) + count
    wait_for("operations", lambda: done(workers) >= enough)


def finish(workers: list[Worker]) -> None:
    """Stop them; nothing may hang, nothing may have gone wrong."""
    for worker in workers:
        worker.stopping = True
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()
    assert [worker.unexpected for worker in workers] == [[]] * WORKERS


def synchronise(pair: EnginePair, timeout: float = 60) -> None:
    """Wait until in sync. An operation that could not be applied would be mended by another resynchronisation: here
    it is an error at once."""

    def in_sync() -> bool:
        states = pair.a.status(), pair.b.status()
        assert [state["dropped"] for state in states] == [None, None], states
        return all(state["in_sync"] for state in states)

    wait_for("in sync", in_sync, timeout)


@pytest.mark.parametrize("seed", range(4))
def test_trees_are_equal_after_a_resynchronisation_under_load(pair: EnginePair, seed: int) -> None:
    fill(pair.a.mount, seed)
    workers = [Worker(pair.a.mount, seed * 100 + index) for index in range(WORKERS)]
    for worker in workers:
        worker.start()
    for _ in range(2):
        pair.b.start()
        pair.b.call("start_secondary")
        synchronise(pair)
        wait_for_operations(workers, 200)
        pair.b.stop()
        pair.a.call("go_alone")
    pair.b.start()
    pair.b.call("start_secondary")
    synchronise(pair)
    finish(workers)
    assert pair.a.status()["dropped"] is None
    pair.assert_equal()


def test_the_connection_is_cut_again_and_again_during_the_resynchronisation(pair: EnginePair) -> None:
    fill(pair.a.mount, 9)
    workers = [Worker(pair.a.mount, 900 + index) for index in range(WORKERS)]
    for worker in workers:
        worker.start()
    pair.b.start()
    for cut in range(8):
        pair.relays["b"].cut_after(200_000 + cut * 700_000)
        if cut == 0:
            pair.b.call("start_secondary")
        threading.Event().wait(0.3)
    synchronise(pair, 90)
    finish(workers)
    synchronise(pair)
    pair.assert_equal()
