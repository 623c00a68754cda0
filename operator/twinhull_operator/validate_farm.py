"""Checks of what only a FarmModule has."""

from __future__ import annotations

from collections.abc import Iterator

from twinhull_operator.module import Module
from twinhull_operator.problem import Problem
from twinhull_operator.validate_template import container_ports


def check_farm(module: Module) -> tuple[Problem, ...]:
    """All findings; none for a module that is no farm."""
    return () if module.farm is None else tuple(_checker_ports(module))


def _checker_ports(module: Module) -> Iterator[Problem]:
    names = sorted(name for name, protocol in container_ports(module) if protocol == "TCP")
    for index, checker in enumerate((module.farm and module.farm.checkers) or ()):
        if isinstance(checker.port, str) and checker.port not in names:
            yield Problem(
                f"spec.checkers[{index}].port",
                f"no container has a TCP port named {checker.port!r}",
                f"use a number or one of: {', '.join(names) or 'none is named'}",
            )
