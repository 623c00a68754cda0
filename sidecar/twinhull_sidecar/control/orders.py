"""Administrator's orders: taken in, passed to the decision or to the peer, and their outcome told."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar

from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.role.model import Action, Answer, Order

REMEMBERED = 32


class AnyOrder(Protocol):
    """What every kind of module's orders have."""

    @property
    def id(self) -> str:
        """The same id twice is the same order."""

    @property
    def action(self) -> str:
        """What is ordered."""


OrderT = TypeVar("OrderT", bound=AnyOrder)


@dataclass(frozen=True)
class OrderState:
    """One order and what became of it so far."""

    order: AnyOrder
    state: Literal["running", "done", "failed"] = "running"
    message: str = ""


class Desk(Generic[OrderT]):
    """Gives each order once to the decision, remembers the last ones by id."""

    def __init__(self, events: EventLog, wake: Callable[[], None]) -> None:
        self._events = events
        self._wake = wake
        self._known: OrderedDict[str, OrderState] = OrderedDict()
        self._new: list[OrderT] = []

    def read(self, identity: str, action: str, user: str, discard_peer: bool) -> OrderT:
        """The order of these words. Raises ValueError, which says what would be right."""
        raise NotImplementedError

    @property
    def last(self) -> OrderState | None:
        """The order that came last."""
        return next(reversed(self._known.values()), None)

    async def take(
        self,
        action: str,
        user: str,
        discard_peer: bool,
        identity: str,
        forward: Callable[[OrderT], Awaitable[None]] | None,
    ) -> tuple[bool, str, str]:
        """Take an order in; the answer is (accepted, message, id).

        With ``forward`` the order is the peer's business: it is passed on, the decision does not see it.
        """
        identity = identity or uuid.uuid4().hex
        try:
            order = self.read(identity, action, user, discard_peer)
        except ValueError as error:
            return False, str(error), identity
        if order.id in self._known:
            known = self._known[order.id]
            return known.state != "failed", known.message or f"already {known.state}", order.id
        self._known[order.id] = OrderState(order)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self._events.normal("OrderReceived", f"{order.action} ordered by {user or 'unknown'}")
        if forward is not None:
            await forward(order)
        else:
            self._new.append(order)
            self._wake()
        return True, "accepted", order.id

    def drain(self) -> tuple[OrderT, ...]:
        """The orders that the decision has not seen."""
        orders, self._new = tuple(self._new), []
        return orders

    def answer(self, answer: Answer) -> None:
        """The outcome of an order, from the decision or from the peer."""
        known = self._known.get(answer.order)
        if known is None or (known.state, known.message) == (answer.state, answer.message):
            return
        self._known[answer.order] = replace(known, state=answer.state, message=answer.message)
        action = known.order.action
        if answer.state == "done":
            self._events.normal("OrderDone", f"{action}: {answer.message or 'done'}")
        elif answer.state == "failed":
            self._events.warning("OrderFailed", f"{action}: {answer.message}")


class OrderDesk(Desk[Order]):
    """The desk of a MirrorModule."""

    def read(self, identity: str, action: str, user: str, discard_peer: bool) -> Order:
        """See Desk."""
        if action not in list(Action):
            raise ValueError(f"action {action!r} is not known; choose one of {', '.join(Action)}")
        if discard_peer and action != Action.FORCE_PRIMARY:
            raise ValueError("discard_peer goes with force-primary only; leave it out")
        return Order(identity, Action(action), user, discard_peer)
