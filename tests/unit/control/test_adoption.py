"""Data of a deleted module: refused with the line to write, and the line reaches the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control.doubles import module
from twinhull_sidecar import tls
from twinhull_sidecar.config import ConfigError, parse, render
from twinhull_sidecar.control.assembly import assembled
from twinhull_sidecar.control.engine import Engine, engine_config
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.surroundings import Surroundings

OLD = "11111111-0000-4000-8000-000000000000"


class ForeignError(Exception):
    """What the engine raises when the data are another module's."""

    foreign_module = OLD


def refuse(_: str) -> Engine:
    raise ForeignError("generation record /x/record.json belongs to module 1111")


@pytest.mark.parametrize(
    ("adopts", "words"),
    [
        (None, f"belong to a module with UID {OLD}, this one has u-1"),
        ("another", "this one has u-1 and adopts another"),
    ],
)
async def test_kept_data_are_refused_with_the_line_to_write(
    tmp_path: Path, adopts: str | None, words: str
) -> None:
    config = replace(module(str(tmp_path)), adopt_uid=adopts)
    identity = tls.Identity("a", tmp_path, b"", b"", b"", b"k" * 32)
    around: dict[str, Any] = {name: Path("/nowhere") for name in ("gate_dir", "gate_binary", "cri_socket")}
    with pytest.raises(ConfigError) as caught:
        async with assembled(
            config, Surroundings("a", identity, lambda: identity, **around), EventLog(), lambda: None, refuse
        ):
            pass
    assert caught.value.field == "adopt_uid"
    assert words in caught.value.message
    assert f'write "adoptUID: {OLD}" under spec to take them over' in caught.value.mend


def test_only_what_is_named_is_adopted() -> None:
    config = module()
    assert json.loads(engine_config(config, "a", b"k"))["adopt"] is None
    named = parse(render(replace(config, adopt_uid=OLD)))
    assert json.loads(engine_config(named, "b", b"k"))["adopt"] == OLD
