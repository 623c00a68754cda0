"""docs/failure-modes.md promises nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (REPOSITORY / "docs" / "failure-modes.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| what fails")
]


@pytest.mark.parametrize("row", _ROWS, ids=[row[0] for row in _ROWS])
def test_each_row_names_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 5, row
    assert all(row), row
    named = re.fullmatch(r"`(tests/\S+\.py)::(\w+)`", row[4])
    assert named is not None, row[4]
    text = (REPOSITORY / named[1]).read_text()
    assert re.search(rf"^(async )?def {named[2]}\(", text, re.M), row[4]


def test_the_table_is_there() -> None:
    assert len(_ROWS) > 30
