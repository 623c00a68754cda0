"""Who has a token, and what they may do: asked of the API server (TokenReview, SubjectAccessReview)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twinhull_operator.constants import GROUP, PLURALS, Kind
from twinhull_operator.kube import ACCESS_REVIEWS, TOKEN_REVIEWS, ApiError, Kube

VIEW: Final = "get"
FRESH: Final = 30.0
"""Seconds for which an answer about viewing is believed. An order is always asked for anew."""
_REMEMBERED: Final = 4096


class ForeignTokenError(Exception):
    """The API server does not know this token, or no longer. The message is for its owner."""


@dataclass(frozen=True)
class User:
    """As the API server names the token's owner."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Target:
    """A module as permissions see it; empty fields mean any."""

    kind: Kind
    namespace: str = ""
    name: str = ""


class Access:
    """Asks the API server with the operator's own rights."""

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._viewing: OrderedDict[tuple[User, Target], tuple[float, bool]] = OrderedDict()

    async def identify(self, token: str) -> User:
        """The token's owner. Raises ForeignTokenError, ApiError."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = (await self._kube.review(TOKEN_REVIEWS, body)).get("status") or {}
        user = status.get("user") or {}
        if not status.get("authenticated") or not user.get("username"):
            raise ForeignTokenError(_explain(str(status.get("error", ""))))
        return User(
            name=str(user["username"]),
            uid=str(user.get("uid", "")),
            groups=tuple(user.get("groups") or ()),
            extra={str(k): tuple(v) for k, v in (user.get("extra") or {}).items()},
        )

    async def may(self, user: User, verb: str, target: Target) -> bool:
        """Whether the user may do this, by the API server's word at this moment. Raises ApiError."""
        spec: dict[str, Any] = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
            "resourceAttributes": {
                "group": GROUP,
                "resource": PLURALS[target.kind],
                "verb": verb,
                "namespace": target.namespace,
                "name": target.name,
            },
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status = (await self._kube.review(ACCESS_REVIEWS, body)).get("status") or {}
        return bool(status.get("allowed")) and not status.get("denied")

    async def may_view(self, user: User, target: Target) -> bool:
        """Whether the user may get the module: by a right to all, to its namespace's, or to itself.

        While the API server does not answer, its last answer holds; without one, nothing is shown.
        """
        wider = (Target(target.kind), Target(target.kind, target.namespace), target)
        for one in wider:
            if await self._viewable(user, one):
                return True
        return False

    async def _viewable(self, user: User, target: Target) -> bool:
        key, now = (user, target), self._clock()
        asked, allowed = self._viewing.get(key, (0.0, False))
        if key in self._viewing and now - asked < FRESH:
            return allowed
        try:
            allowed = await self.may(user, VIEW, target)
        except ApiError as error:
            if not is_outage(error):
                raise
        self._viewing[key] = (now, allowed)
        self._viewing.move_to_end(key)
        while len(self._viewing) > _REMEMBERED:
            self._viewing.popitem(last=False)
        return allowed

    def forget(self, user: User) -> None:
        """Ask anew, for one who has just signed in."""
        for key in [key for key in self._viewing if key[0] == user]:
            del self._viewing[key]


def is_outage(error: ApiError) -> bool:
    """Whether the API server could not answer, rather than refused."""
    return error.status in (0, 429) or error.status >= 500


def _explain(error: str) -> str:
    if "expired" in error:
        return "This token has expired. Make a new one and sign in with it."
    return (
        "The API server does not know this token. It may have expired, been revoked with its service account, "
        "or belong to another cluster."
    )
