"""Takes orders: permitted, as confirmed, one at a time per module, and told to Kubernetes with the user's name."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import grpc.aio

from twinhull_operator.console.access import Access, Target, User
from twinhull_operator.console.board import Board
from twinhull_operator.console.given import Given
from twinhull_operator.console.page import situation_of
from twinhull_operator.console.plan import Plan, render_plan
from twinhull_operator.console.plans import find_plan
from twinhull_operator.console.refuse import RefusalError
from twinhull_operator.constants import PLURALS
from twinhull_operator.kube import EVENTS, ApiError, Kube
from twinhull_operator.metrics.view import ModuleView
from twinhull_operator.module import Module
from twinhull_operator.render_event import render_event
from twinhull_operator.report import find_verification
from twinhull_sidecar.api import sidecar_pb2 as pb

log = logging.getLogger(__name__)

_LONGEST_NAME: Final = 200
EVENT_REASON: Final = "ConsoleOrder"


class GiveOrder(Protocol):
    """Gives an order to a sidecar; see Modules.order."""

    def __call__(
        self, module: Module, node: str, action: str, user: str, identifier: str, *, discard_peer: bool
    ) -> Awaitable[pb.OrderReply]:
        """Raises LookupError, grpc.aio.AioRpcError."""


@dataclass(frozen=True)
class Wish:
    """What a page sends: which plan, as it was when it was confirmed, and the word that was typed."""

    plan: str
    stamp: str
    confirm: str = ""


class Desk:
    """One for all modules."""

    def __init__(
        self,
        board: Board,
        access: Access,
        kube: Kube,
        give: GiveOrder,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._board = board
        self._access = access
        self._kube = kube
        self._give = give
        self._wall = wall
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def explain(self, user: User, key: str, plan_key: str) -> dict[str, object]:
        """A plan with its stamp, and whether the user may carry it out. Raises RefusalError."""
        view, target = await self._find(user, key)
        plan = self._plan(view, plan_key)
        try:
            allowed = await self._access.may(user, plan.action, target)
            forbidden = "" if allowed else _forbidden(plan, target)
        except ApiError as error:
            forbidden = _cannot_ask(error)
        return {**render_plan(plan), "forbidden": forbidden}

    async def order(self, user: User, key: str, wish: Wish) -> Given:
        """Carry a plan out. Raises RefusalError; nothing was ordered then, unless it says so."""
        view, target = await self._find(user, key)
        plan = self._plan(view, wish.plan)
        try:
            allowed = await self._access.may(user, plan.action, target)
        except ApiError as error:
            raise RefusalError(503, "ApiServerDown", _cannot_ask(error)) from error
        if not allowed:
            log.warning("%s may not %s %s", printable(user.name), plan.action, key)
            raise RefusalError(403, "Forbidden", _forbidden(plan, target))
        # Two administrators at once: the second sees what the first has ordered.
        async with self._locks[key]:
            view, _ = await self._find(user, key)
            plan = self._plan(view, wish.plan)
            _check(plan, wish, self._board.pending(view, self._wall()))
            given = await self._send(user, view, plan)
            self._board.follow(view.module.uid, given)
        return given

    async def _find(self, user: User, key: str) -> tuple[ModuleView, Target]:
        view = self._board.view(key)
        if view is not None:
            target = Target(view.module.kind, view.module.namespace, view.module.name)
            if await self._access.may_view(user, target):
                return view, target
        raise RefusalError(404, "NoSuchModule", "There is no such module, or you may not see it.")

    def _plan(self, view: ModuleView, plan_key: str) -> Plan:
        plan = find_plan(situation_of(view, self._wall()), plan_key)
        if plan is None:
            raise RefusalError(
                409, "Changed", "The module has changed: this order is no longer there. Nothing was done."
            )
        return plan

    async def _send(self, user: User, view: ModuleView, plan: Plan) -> Given:
        known = find_verification(view.reports)
        name, identifier, now = printable(user.name), uuid.uuid4().hex, self._wall()
        what = f"{plan.action}{f' of {plan.node}' if plan.node else ''}"
        try:
            reply = await self._give(
                view.module,
                plan.asked,
                plan.action,
                f"{name} (console)",
                identifier,
                discard_peer=plan.discard_peer,
            )
        except LookupError as error:
            raise RefusalError(
                404, "NoSuchModule", "The module has just been deleted. Nothing was done."
            ) from error
        except grpc.aio.AioRpcError as error:
            why = error.details() or error.code().name
            await self._tell(
                view.module, plan, f"{name} ordered {what}: {plan.asked} could not be asked ({why})"
            )
            raise RefusalError(
                502,
                "SidecarUnreachable",
                f"The sidecar on {plan.asked} could not be asked ({printable(why)}). "
                "If it got the order nevertheless, the module's events will show it.",
            ) from error
        if not reply.accepted:
            answer = reply.message or "it gave no reason"
            await self._tell(view.module, plan, f"{name} ordered {what}: {plan.asked} refused: {answer}")
            raise RefusalError(409, "Refused", f"{plan.asked} refused: {answer}")
        await self._tell(view.module, plan, f"{name} ordered {what}: {plan.asked} accepted")
        return Given(
            id=reply.id or identifier,
            kind=view.module.kind,
            action=plan.action,
            node=plan.node,
            asked=plan.asked,
            user=name,
            given=now,
            compared_before=known.begun if known is not None else 0.0,
        )

    async def _tell(self, module: Module, plan: Plan, message: str) -> None:
        log.info("%s: %s", module.key, message)
        kind = "Warning" if plan.danger == "loses" else "Normal"
        event = render_event(module, kind=kind, reason=EVENT_REASON, message=message, time=self._wall())
        try:
            await self._kube.create(EVENTS, event)
        except ApiError as error:
            log.warning("%s: an event is lost: %s", module.key, error)


def printable(text: str) -> str:
    """A name from outside in one line of a log or an event."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_LONGEST_NAME]


def _check(plan: Plan, wish: Wish, pending: Given | None) -> None:
    if pending is not None and plan.action not in ("stop", "force-primary"):
        message = f"{pending.user} has just ordered {pending.action}; wait for its end. Nothing was done."
        raise RefusalError(409, "NotNow", message)
    if plan.refusal:
        raise RefusalError(409, "NotNow", plan.refusal)
    if plan.stamp != wish.stamp:
        message = "The module has changed since you read what will happen. Nothing was done; read it again."
        raise RefusalError(409, "Changed", message, plan=render_plan(plan))
    if plan.confirm and wish.confirm.strip() != plan.confirm:
        raise RefusalError(400, "NotConfirmed", f"Type {plan.confirm} to confirm. Nothing was done.")


def _forbidden(plan: Plan, target: Target) -> str:
    return (
        f"You may not do this: it needs the verb {plan.action} on {PLURALS[target.kind]} "
        f"in the namespace {target.namespace}."
    )


def _cannot_ask(error: ApiError) -> str:
    return (
        f"The API server cannot be asked whether you may do this ({error.message}). Nothing was done. "
        "On a node, twinhullctl gives the same order without it."
    )
