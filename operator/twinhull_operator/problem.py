"""A finding about a module's specification: what is wrong where, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """``field`` is a path in the resource, ``mend`` an instruction; ``node`` is set when a node's sidecar
    found it.
    """

    field: str
    message: str
    mend: str
    node: str = ""

    def __str__(self) -> str:
        where = f"{self.field} (node {self.node})" if self.node else self.field
        return f"{where}: {self.message}; {self.mend}"


class InvalidModuleError(Exception):
    """A module cannot be carried out; its running pods are left as they are."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems
