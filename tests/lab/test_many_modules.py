"""The operator with several modules: what it asks does not grow with their number while nothing happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.many_modules import measure
from tests.lab.report import figure

MODULES = 10
#: Of the lists that are shared by all, a few reads of what came due, kopf's own.
MOST_REQUESTS_A_MINUTE = 60


@pytest.mark.timeout(400)
async def test_a_change_is_reconciled_and_quiet_modules_cost_nothing(tmp_path: Path) -> None:
    figures = await measure(MODULES, quiet=25.0, changes=3, directory=tmp_path)
    for name, value in figures.items():
        figure(f"{MODULES} modules: {name}: {value}")
    assert figures["requests per minute while nothing happens"] < MOST_REQUESTS_A_MINUTE
    assert "Traceback" not in (tmp_path / "operator.log").read_text()
