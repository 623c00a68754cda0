"""Fixtures of the operator's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.operator.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal of one test."""
    return Terminal(tmp_path)
