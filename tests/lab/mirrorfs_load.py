"""A load on a mount that knows what was acknowledged: numbered records, each written by one call.

``python mirrorfs_load.py DIRECTORY SEED`` works until it is told to stop by the end of its standard input, and then
prints how many operations it did. Operations are random (writes, appends, truncations, renames, links, removals,
attributes) over a small set of names, from three threads, so that many touch the same files.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Load:
    """Random operations below ``directory``. Errors that names bring about (absent, present) are part of the game."""

    _moving = threading.Lock()

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._random = random.Random(seed)
        self.done = 0

    def _path(self) -> Path:
        inner = self._random.randrange(4)
        return self._directory / f"d{inner}" / f"f{self._random.randrange(12)}"

    def step(self) -> None:
        """One operation."""
        choice = self._random.randrange(14)
        path = self._path()
        with contextlib.suppress(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
            if choice < 4:
                with path.open("r+b") as file:
                    file.seek(self._random.randrange(300_000))
                    file.write(self._random.randbytes(self._random.randrange(1, 20_000)))
            elif choice < 6:
                with path.open("ab") as file:
                    file.write(self._random.randbytes(100))
            elif choice < 8:
                path.write_bytes(self._random.randbytes(self._random.randrange(100_000)))
            elif choice == 8:
                os.truncate(path, self._random.randrange(200_000))
            elif choice == 9:
                path.rename(self._path())
            elif choice == 10:
                os.link(path, self._path())
            elif choice == 11:
                path.unlink()
            elif choice == 12:
                path.chmod(self._random.choice([0o600, 0o640, 0o755]))
                os.setxattr(path, "user.load", self._random.randbytes(20))
            else:
                self._move_directory()
        self.done += 1

    def _move_directory(self) -> None:
        source, target = self._random.sample(range(4), 2)
        name = f"d{source}"
        # A directory moves into another and back, with all that is in it; one at a time, or two would meet inside
        # each other.
        inside = self._directory / f"d{target}" / name
        with self._moving:
            (self._directory / name).rename(inside)
            inside.rename(self._directory / name)


def main() -> None:
    """Work until standard input ends."""
    directory, seed = Path(sys.argv[1]), int(sys.argv[2])
    for inner in range(4):
        (directory / f"d{inner}").mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(load: Load) -> None:
        try:
            while not stop.is_set():
                load.step()
        except BaseException as error:
            failures.append(error)

    loads = [Load(directory, seed * 10 + number) for number in range(3)]
    threads = [threading.Thread(target=work, args=(load,)) for load in loads]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    print(sum(load.done for load in loads))


class RunningLoad:
    """The load's process."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(directory), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> int:
        """Let it finish its last operations; returns how many it did. Fails when one failed."""
        output, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, errors
        return int(output)

    def end(self) -> None:
        """Whatever it does. It may hang in the mount until that is gone, so nobody waits for it here."""
        if self._process.poll() is None:
            self._process.kill()


@contextmanager
def load_on(directory: Path, seed: int = 1) -> Iterator[RunningLoad]:
    """A load that runs until :meth:`RunningLoad.stop`."""
    load = RunningLoad(directory, seed)
    try:
        yield load
    finally:
        load.end()


if __name__ == "__main__":
    main()
