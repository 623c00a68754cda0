"""What differs between the kinds of module, beside the reading of their specifications: a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from twinhull_operator.constants import FARM, MIRROR, Kind
from twinhull_operator.module import Object
from twinhull_operator.report import Facts
from twinhull_operator.rollout import Pod, Step, next_mirror_step
from twinhull_operator.rollout_farm import next_farm_step
from twinhull_operator.status_conditions import Condition
from twinhull_operator.status_farm import farm_conditions, farm_fields, farm_words
from twinhull_operator.status_mirror import mirror_conditions, mirror_fields, mirror_words
from twinhull_sidecar.api import sidecar_pb2 as pb


class NextStep(Protocol):
    """The next step of a rollout towards a template, by its hash (empty: no template is valid)."""

    def __call__(self, template_hash: str, pods: list[Pod], facts: Facts) -> Step:
        """See rollout and rollout_farm."""


@dataclass(frozen=True)
class KindPart:
    """``fields`` and ``conditions`` go into the status, ``words`` into each of its nodes.

    ``words`` gets a sidecar's status, the node's entry so far, and the facts.
    """

    fields: Callable[[Facts], Object]
    words: Callable[[pb.Status, Object, Facts], Object]
    conditions: Callable[[Facts], list[Condition]]
    next_step: NextStep


KINDS: Final[Mapping[Kind, KindPart]] = {
    MIRROR: KindPart(mirror_fields, mirror_words, mirror_conditions, next_mirror_step),
    FARM: KindPart(farm_fields, farm_words, farm_conditions, next_farm_step),
}
