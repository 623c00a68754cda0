"""Who is signed in. In memory only: when the operator starts anew, everybody signs in again."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from twinhull_operator.console.access import User

LONGEST: Final = 8 * 3600.0
"""Seconds from signing in to the end of the session, whatever happens."""
IDLE: Final = 30 * 60.0
"""Seconds without a request and without an open page."""
REVIEW: Final = 60.0
"""Seconds after which the API server is asked again whether the token is still good."""
MOST: Final = 500
MOST_OF_ONE: Final = 10


@dataclass(eq=False)
class Session:
    """``token`` is kept to ask whether it is still good. Times are monotonic; ``ends_at`` is Unix seconds."""

    id: str
    user: User
    token: str = field(repr=False)
    csrf: str = field(repr=False)
    ends: float
    ends_at: float
    seen: float
    reviewed: float
    streams: int = 0

    def is_csrf(self, given: str) -> bool:
        """Whether a request carries this session's token."""
        return hmac.compare_digest(given.encode(), self.csrf.encode())


class Sessions:
    """All sessions. ``clock`` is monotonic, ``wall`` in Unix seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._open: dict[str, Session] = {}

    def begin(self, user: User, token: str) -> Session:
        """A new session, never one that a browser proposed. The oldest makes room."""
        self._sweep()
        now, wall = self._clock(), self._wall()
        own = [session for session in self._open.values() if session.user.name == user.name]
        for crowded, limit in ((own, MOST_OF_ONE), (list(self._open.values()), MOST)):
            if len(crowded) >= limit:
                self.end(min(crowded, key=lambda session: session.seen))
        expires = token_expiry(token)
        lasts = LONGEST if expires is None else max(0.0, min(LONGEST, expires - wall))
        session = Session(
            id=secrets.token_urlsafe(32),
            user=user,
            token=token,
            csrf=secrets.token_urlsafe(32),
            ends=now + lasts,
            ends_at=wall + lasts,
            seen=now,
            reviewed=now,
        )
        self._open[session.id] = session
        return session

    def find(self, identity: str) -> Session | None:
        """The session of this id, if it is not over; marks it as used."""
        session = self._open.get(identity)
        if session is None or not self.is_open(session):
            return None
        session.seen = self._clock()
        return session

    def is_open(self, session: Session) -> bool:
        """Whether it has neither ended nor been idle for too long."""
        now = self._clock()
        idle = session.streams == 0 and now - session.seen > IDLE
        if session.id in self._open and (now >= session.ends or idle):
            self.end(session)
        return session.id in self._open

    def needs_review(self, session: Session) -> bool:
        """Whether it is time to ask for the token again."""
        return self._clock() - session.reviewed >= REVIEW

    def reviewed(self, session: Session) -> None:
        """The token has been asked for just now."""
        session.reviewed = self._clock()

    def end(self, session: Session) -> None:
        """Sign out."""
        self._open.pop(session.id, None)

    def _sweep(self) -> None:
        for session in list(self._open.values()):
            self.is_open(session)


def token_expiry(token: str) -> float | None:
    """When a token says that it ends, in Unix seconds. Only of a token that the API server knows."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
