"""The reference of the metrics as Markdown: ``python -m twinhull_operator.metrics.reference FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

from twinhull_operator.metrics.definitions import METRICS
from twinhull_operator.metrics.own import OWN_METRICS

BEGIN = "<!-- generated: begin -->"
END = "<!-- generated: end -->"


def rows() -> list[tuple[str, str, str, str]]:
    """Name, type, labels and help of every metric."""
    found: list[tuple[str, str, str, str]] = [
        (metric.name, metric.type, ", ".join(metric.labels), metric.help) for metric in METRICS
    ]
    for own in OWN_METRICS:
        (family,) = own.describe()
        suffix = "_total" if family.type == "counter" else ""
        found.append((family.name + suffix, family.type, ", ".join(own._labelnames), family.documentation))
    return found


def table() -> str:
    """All metrics as a Markdown table."""
    head = "| metric | type | labels | meaning |\n|---|---|---|---|\n"
    return head + "".join(f"| `{n}` | {t} | {labels} | {text} |\n" for n, t, labels, text in rows())


def replaced(document: str) -> str:
    """The document with the table of today between its two marks. Raises ValueError without the marks."""
    before, _, rest = document.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the document has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def main() -> int:
    """Rewrite the named file."""
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} docs/reference/metrics.md", file=sys.stderr)
        return 2
    path = Path(sys.argv[1])
    path.write_text(replaced(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
