"""The decision's own durable facts, a small JSON file beside the engine's record."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinhull_sidecar.config import ConfigError
from twinhull_sidecar.role.model import Persisted

FILE = "intent.json"
VERSION = 1
_TYPES: Mapping[str, tuple[type, ...]] = {
    "intent": (int,),
    "stopped": (bool,),
    "held": (bool,),
    "split_brain": (str, type(None)),
    "overrides": (str, type(None)),
}


class Store:
    """Reads and writes :class:`Persisted`; a write is on stable storage when it returns."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE

    def load(self) -> Persisted:
        """What was saved last; the default when nothing was. Raises ConfigError when the file is damaged."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return Persisted()
        mend = "remove the file to forget stop orders and split-brain decisions, then start the module anew"
        try:
            value = json.loads(text)
            if value.pop("version") != VERSION:
                raise ConfigError(str(self._path), "was written by another release", "use that release")
            persisted = Persisted(**value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(str(self._path), f"is damaged ({error})", mend) from None
        for name, kinds in _TYPES.items():
            if type(getattr(persisted, name)) not in kinds:
                raise ConfigError(str(self._path), f"is damaged (its {name} is of a wrong type)", mend)
        return persisted

    def save(self, persisted: Persisted) -> None:
        """Write durably. Raises OSError."""
        value = asdict(persisted)
        if not persisted.held:
            # Not said when it need not be: a release that does not know it reads the file as well.
            del value["held"]
        save_document(self._path, {"version": VERSION, **value})


def save_document(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object durably: temporary file, fsync, rename, fsync of the directory. Raises OSError."""
    directory = path.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
