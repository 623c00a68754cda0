"""What the tests measured, for people: printed at once and again in the summary of a run."""

from __future__ import annotations

#: One line each, in order; ``conftest`` prints them at the end.
FIGURES: list[str] = []


def figure(text: str) -> None:
    """Note and print one line."""
    FIGURES.append(text)
    print(f"\n{text}")
