"""Ends the operator in order."""

from __future__ import annotations

import kopf


async def stop(memo: kopf.Memo) -> None:
    """Stop keeping modules; their pods and failovers do not depend on the operator."""
    if "console" in memo:
        await memo.console.close()
    if "metrics" in memo:
        await memo.metrics.close()
    if "modules" in memo:
        await memo.modules.close()
    # Last: whoever takes over must not meet what this one was just doing.
    if "leadership" in memo:
        await memo.leadership.close()
