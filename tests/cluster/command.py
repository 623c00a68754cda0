"""Running programs: one function that says what failed, and a progress line for what takes long."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.topology import BINARIES, CACHE


class CommandError(RuntimeError):
    """A program ended with a non-zero code; the message has its command line and the end of its output."""

    def __init__(self, arguments: Sequence[str], code: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-40:])
        super().__init__(f"{shlex.join(arguments)} ended with code {code}:\n{tail}")
        self.code = code
        self.output = output


def environment() -> dict[str, str]:
    """The environment of every program run here: our own tools first, podman configured by our file."""
    return os.environ | {
        "PATH": f"{BINARIES}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}",
        "CONTAINERS_CONF": str(CACHE / "containers.conf"),
        "KIND_EXPERIMENTAL_PROVIDER": "podman",
    }


def run(
    *arguments: str | Path,
    stdin: str | bytes | None = None,
    cwd: Path | None = None,
    extra: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    """Runs a program to its end and returns its standard output.

    Raises:
        CommandError: its exit code was not 0.
        subprocess.TimeoutExpired: it ran longer than ``timeout`` seconds.
    """
    command = [str(argument) for argument in arguments]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        command,
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        cwd=cwd,
        env=environment() | dict(extra or {}),
        timeout=timeout,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise CommandError(command, done.returncode, output + done.stderr.decode(errors="replace"))
    return output


def succeeds(*arguments: str | Path, timeout: float | None = None) -> bool:
    """Whether a program ends with code 0; for questions whose answer 'no' is ordinary."""
    try:
        run(*arguments, timeout=timeout)
    except (CommandError, subprocess.TimeoutExpired):
        return False
    return True


def pipe(source: Sequence[str | Path], sink: Sequence[str | Path]) -> None:
    """``source | sink``, both checked.

    Raises:
        CommandError: either ended with a code other than 0.
    """
    left = [str(part) for part in source]
    with subprocess.Popen(
        left, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as producer:
        right = [str(part) for part in sink]
        consumer = subprocess.run(
            right, stdin=producer.stdout, capture_output=True, env=environment(), check=False
        )
        assert producer.stdout is not None
        assert producer.stderr is not None
        producer.stdout.close()
        complaint = producer.stderr.read().decode(errors="replace")
    if consumer.returncode != 0:
        raise CommandError(
            right, consumer.returncode, (consumer.stdout + consumer.stderr).decode(errors="replace")
        )
    if producer.returncode != 0:
        raise CommandError(left, producer.returncode, complaint)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints a title before and the time it took after, so that a wait of minutes is explained."""
    print(f"==> {title}", file=sys.stderr, flush=True)
    begin = time.monotonic()
    yield
    print(f"    {title}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
