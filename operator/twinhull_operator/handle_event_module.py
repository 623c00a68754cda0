"""A module came, changed or went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf

from twinhull_operator.constants import Kind


async def observe(kind: Kind, event: Mapping[str, Any], memo: kopf.Memo) -> None:
    """Pass it on to the module's reconciler, which reads the resource itself and tries again until it
    succeeds.

    A raw event handler, because it needs neither finalizers (a deletion is never held up) nor annotations.
    """
    metadata = event["object"]["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    if event["type"] == "DELETED":
        await memo.modules.forget(kind, namespace, name)
    else:
        generation = int(metadata.get("generation", 0))
        await memo.modules.observe(kind, namespace, name, metadata["uid"], generation)
