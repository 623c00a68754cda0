"""The generated pages of the reference are those of the code as it is."""

from __future__ import annotations

import pytest

from tests.reference import REFERENCE, commands_page, fields_page, pages


@pytest.mark.parametrize("name", ["fields.md", "commands.md", "metrics.md"])
def test_the_committed_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text() == pages()[name], "run make reference"


def test_the_pages_say_what_one_looks_for() -> None:
    fields = fields_page()
    assert "| `spec.failback` | `Manual` \\| `Automatic` | `Manual` |" in fields
    assert "| `spec.nodes` | list of object | required |" in fields
    assert "*must be a duration from 500ms to 60s, for example 3s.*" in fields
    commands = commands_page()
    assert "### `kubectl twinhull hold NAME`" in commands
    assert "- `--node NODE`: the node that is to serve. Required." in commands
    assert "### `twinhullctl force-primary`" in commands
