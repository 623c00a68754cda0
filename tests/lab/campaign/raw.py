"""Files written without any database: the operations, what must be there after them, and the judge. Pure.

An operation changes one file of a few: it appends a record, replaces the file by a rename, or removes it. Which one
follows from the operation's number, so that the tree after so many operations can be told beforehand. Appends are
flushed only sometimes; the others always flush the directory.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.lab.campaign.client import payload

FILES = 6
Tree = dict[str, bytes]


@dataclass(frozen=True)
class Operation:
    """``kind``: append, replace, remove. ``durable``: acknowledged only after a flush."""

    number: int
    kind: str
    name: str
    data: bytes
    durable: bool


def operation(number: int) -> Operation:
    """The operation with this number."""
    chosen = random.Random(number)
    kind = chosen.choices(("append", "replace", "remove"), (8, 2, 1))[0]
    durable = kind != "append" or chosen.random() < 0.5
    name = f"file-{chosen.randrange(FILES)}"
    return Operation(number, kind, name, f"{number:08}".encode() + payload(number), durable)


def after(tree: Tree, step: Operation) -> Tree:
    """The tree when the operation has been carried out."""
    changed = dict(tree)
    match step.kind:
        case "append":
            changed[step.name] = tree.get(step.name, b"") + step.data
        case "replace":
            changed[step.name] = step.data
        case "remove":
            changed.pop(step.name, None)
    return changed


def trees(base: Tree, first: int, last: int) -> Iterator[tuple[int, Tree]]:
    """The tree before operation ``first``, and after each one up to ``last``, with the number of the operation."""
    yield first - 1, base
    tree = base
    for number in range(first, last + 1):
        tree = after(tree, operation(number))
        yield number, tree


def judge_survivor(base: Tree, first: int, acknowledged: int, found: Tree, *, every: bool) -> int:
    """What a node has that kept its power: the tree after some operation exactly (M1), the last acknowledged one or the
    one after; without ``every`` at least the last one that was flushed. Returns which."""
    lowest = acknowledged
    if not every:
        lowest = max((n for n in range(first, acknowledged + 1) if operation(n).durable), default=first - 1)
    for number, tree in reversed(list(trees(base, first, acknowledged + 1))):
        if tree == found:
            if number < lowest:
                raise AssertionError(f"LOST: {lowest} was acknowledged, the tree is that after {number}")
            return number
    raise AssertionError(
        f"LOST or mixed: the tree is not that after any operation from {first} to {acknowledged + 1}:"
        f" {_describe(found)}; after {acknowledged} it would be"
        f" {_describe(list(trees(base, first, acknowledged))[-1][1])}"
    )


def judge_restarted(base: Tree, first: int, acknowledged: int, found: Tree) -> None:
    """What a node has that lost its power: each file at least as it was after the last flushed operation on it."""
    history = list(trees(base, first, acknowledged + 1))
    for name in {*found, *(name for _, tree in history for name in tree)}:
        # What was acknowledged as flushed, and whatever came later may be there as well, in part.
        possible = [history[0][1].get(name)]
        for (_, _before), (number, tree) in pairwise(history):
            step = operation(number)
            if step.name != name:
                continue
            if step.durable and number <= acknowledged:
                possible = [tree.get(name)]
            elif step.kind == "append":
                possible.append(possible[-1] or b"")
            else:
                possible.append(tree.get(name))
        content = found.get(name)
        if not any(_holds(content, least) for least in possible):
            raise AssertionError(
                f"LOST: {name} is {_brief(content)}, it was flushed as {_brief(possible[0])}"
            )


def _holds(content: bytes | None, least: bytes | None) -> bool:
    """Whether a file has what was flushed; what was appended later may be there or not, a file that was removed not."""
    if least is None or content is None:
        return content is None and least is None
    return content.startswith(least)


def _brief(content: bytes | None) -> str:
    return "missing" if content is None else f"{len(content)} bytes ...{content[-80:]!r}"


def _describe(tree: Tree) -> dict[str, str]:
    return {name: _brief(content) for name, content in sorted(tree.items())}
