"""The pages of all modules as they are now, as JSON; made anew only where something changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from twinhull_operator.console.access import Target
from twinhull_operator.console.follow import advance
from twinhull_operator.console.given import Given
from twinhull_operator.console.page import module_key, render_page, sync_progress
from twinhull_operator.console.sync_rate import SyncRate
from twinhull_operator.metrics.view import ModuleView

log = logging.getLogger(__name__)

ORDERS_KEPT: Final = 5
ORDERS_SHOWN_FOR: Final = 900.0
PENDING_FOR: Final = 15.0
"""Seconds; what takes longer shows in the sidecar's own status."""


@dataclass
class Card:
    """One module: its page, and from what it was made."""

    view: ModuleView
    json: str = ""
    rate: SyncRate = field(default_factory=SyncRate)
    orders: tuple[Given, ...] = ()

    @property
    def target(self) -> Target:
        """The module as permissions see it."""
        return Target(self.view.module.kind, self.view.module.namespace, self.view.module.name)


class Board:
    """``views`` returns what the operator knows."""

    def __init__(self, views: Callable[[], Sequence[ModuleView]]) -> None:
        self._views = views
        self._orders: dict[str, tuple[Given, ...]] = {}
        self.cards: dict[str, Card] = {}

    def view(self, key: str) -> ModuleView | None:
        """A module as it is at this moment."""
        return next((view for view in self._views() if module_key(view) == key), None)

    def follow(self, uid: str, order: Given) -> None:
        """Show this order of the module with this uid until its end, and for a while after it."""
        self._orders[uid] = (order, *self._orders.get(uid, ()))[:ORDERS_KEPT]

    def pending(self, view: ModuleView, now: float) -> Given | None:
        """An order that was given a moment ago and that the sidecar has not shown to have carried out."""
        for order in self._orders.get(view.module.uid, ()):
            known = advance(order, view.reports, now)
            if known.state == "running" and not known.answered and now - order.given < PENDING_FOR:
                return order
        return None

    def refresh(self, now: float) -> set[str]:
        """Look at everything; the keys of what changed, came or went. ``now`` in Unix seconds."""
        views = {module_key(view): view for view in self._views()}
        changed = {key for key in self.cards if key not in views}
        for key in changed:
            self._orders.pop(self.cards.pop(key).view.module.uid, None)
        for key, view in views.items():
            try:
                if self._refresh_one(key, view, now):
                    changed.add(key)
            except Exception:
                # One module that cannot be shown must not hide the others.
                log.exception("%s cannot be shown", key)
        return changed

    def _refresh_one(self, key: str, view: ModuleView, now: float) -> bool:
        card = self.cards.get(key)
        if card is None or card.view.module.uid != view.module.uid:
            card = self.cards[key] = Card(view)
        elif self._is_still(card, view):
            return False
        card.view = view
        progress = sync_progress(view.reports)
        if progress is None:
            card.rate.clear()
        else:
            card.rate.see(now, progress[0])
        card.orders = self._advance(view, now)
        page: dict[str, Any] = render_page(view, card.rate, card.orders, now)
        text = json.dumps(page, separators=(",", ":"))
        if text == card.json:
            return False
        card.json = text
        return True

    def _is_still(self, card: Card, view: ModuleView) -> bool:
        moves = sync_progress(view.reports) is not None or view.module.uid in self._orders
        return bool(card.json) and not card.orders and not moves and _same(card.view, view)

    def _advance(self, view: ModuleView, now: float) -> tuple[Given, ...]:
        uid = view.module.uid
        orders = (advance(order, view.reports, now) for order in self._orders.get(uid, ()))
        kept = tuple(order for order in orders if not order.ended or now - order.ended < ORDERS_SHOWN_FOR)
        if kept:
            self._orders[uid] = kept
        else:
            self._orders.pop(uid, None)
        return kept


def _same(before: ModuleView, after: ModuleView) -> bool:
    """Whether a page would say the same. Reports, findings and statuses are replaced, never changed."""
    return (
        before.module is after.module
        and before.findings is after.findings
        and before.status is after.status
        and all(a is b for a, b in zip(before.reports, after.reports, strict=True))
    )
