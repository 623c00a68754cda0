"""What a check raises."""

from __future__ import annotations


class CheckError(Exception):
    """The check failed; the text says how."""
