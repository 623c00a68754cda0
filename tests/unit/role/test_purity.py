"""The decision does no I/O: nothing in the package imports anything that could."""

from __future__ import annotations

import ast
from pathlib import Path

import twinhull_sidecar.role

ALLOWED = {"__future__", "collections", "dataclasses", "enum", "functools", "typing", "twinhull_sidecar"}
CALLS = {"open", "print", "input", "exec", "eval", "__import__"}


def test_imports_only_values_and_itself() -> None:
    files = sorted(Path(next(iter(twinhull_sidecar.role.__path__))).glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in ALLOWED, f"{file.name} imports {name}"
                if name.startswith("twinhull_sidecar"):
                    assert name.startswith("twinhull_sidecar.role"), f"{file.name} imports {name}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in CALLS, f"{file.name} calls {node.func.id}"
