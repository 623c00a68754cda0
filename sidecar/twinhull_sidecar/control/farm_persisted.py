"""What a farm's node has to remember when its sidecar is started again: the administrator's orders."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from twinhull_sidecar.config import ConfigError
from twinhull_sidecar.control.persisted import save_document

FILE = "farm.json"
VERSION = 1


@dataclass(frozen=True)
class Wish:
    """``draining``: this node takes nothing new. ``stopped``: the module shall not run, on both nodes.

    ``intent`` counts the orders that concern both nodes: the higher one is the newer.
    """

    draining: bool = False
    stopped: bool = False
    intent: int = 0


class FarmStore:
    """Reads and writes a module's :class:`Wish`; a write is on stable storage when it returns."""

    def __init__(self, state_dir: Path, uid: str) -> None:
        self._path = state_dir / FILE
        self._uid = uid

    def load(self) -> Wish:
        """What was saved last; the default when nothing was, or by a deleted module of the same name.

        Raises ConfigError when the file is damaged.
        """
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return Wish()
        try:
            value = json.loads(text)
            version, uid = value.pop("version"), value.pop("uid")
            wish = Wish(**value) if version == VERSION else None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._damaged(str(error)) from None
        if wish is None:
            raise ConfigError(str(self._path), "was written by another release", "use that release")
        if [type(one) for one in (wish.draining, wish.stopped, wish.intent)] != [bool, bool, int]:
            raise self._damaged("wrong types")
        return wish if uid == self._uid else Wish()

    def save(self, wish: Wish) -> None:
        """Write durably. Raises OSError."""
        save_document(self._path, {"version": VERSION, "uid": self._uid, **asdict(wish)})

    def _damaged(self, why: str) -> ConfigError:
        mend = "remove the file to forget stop and drain orders"
        return ConfigError(str(self._path), f"is damaged ({why})", mend)
