"""The witnesses in the status, and what is wrong with them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import ModuleConfig, Witness
from twinhull_sidecar.control.status import Problem
from twinhull_sidecar.role.witness import WitnessView
from twinhull_sidecar.witness.watch import LOOK_EVERY

_TYPES = {"ping": "Ping", "tcp": "TCP", "lease": "Lease"}


def answers(config: ModuleConfig, view: WitnessView, now: float) -> bool:
    """Whether it answers now: within the detection timeout, a vote since the last look at it but one."""
    patience = 2 * LOOK_EVERY + 1.0 if view.deciding else config.detection_timeout
    return view.answered_at is not None and now - view.answered_at < patience


def witness_list(config: ModuleConfig, views: Sequence[WitnessView], now: float) -> list[pb.Witness]:
    """As the message has them."""
    return [
        pb.Witness(
            name=view.name,
            type=_TYPES[witness.kind],
            deciding=view.deciding,
            answers=answers(config, view, now),
            silent_seconds=0.0 if view.answered_at is None else round(now - view.answered_at, 1),
            mine=view.mine,
            holder=view.holder,
            generation=view.generation,
            detail=view.detail,
        )
        for witness, view in zip(config.witnesses, views, strict=True)
    ]


def witness_problems(
    config: ModuleConfig, views: Sequence[WitnessView], *, now: float, started_at: float
) -> list[Problem]:
    """Witnesses that do not answer; not before each was asked."""
    if now - started_at < max(config.detection_timeout, LOOK_EVERY):
        return []
    return [
        Problem(
            f"witnesses[{index}]",
            f"{view.name} does not answer: {view.detail or 'no answer yet'}",
            _mend(witness),
        )
        for index, (witness, view) in enumerate(zip(config.witnesses, views, strict=True))
        if not answers(config, view, now)
    ]


def _mend(witness: Witness) -> str:
    if witness.deciding:
        return "see the other cluster, the Secret with its kubeconfig, and the rights of its user"
    return "see that machine and the way to it, or name another one"
