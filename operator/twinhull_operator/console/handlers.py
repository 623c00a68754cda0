"""What the page asks for over HTTP, except its stream."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from twinhull_operator.console.access import Access, ForeignTokenError, is_outage
from twinhull_operator.console.desk import Desk, Wish, printable
from twinhull_operator.console.protect import check_origin
from twinhull_operator.console.refuse import RefusalError, json_answer
from twinhull_operator.console.sessions import Session, Sessions
from twinhull_operator.console.throttle import Throttle, address_key
from twinhull_operator.kube import ApiError

log = logging.getLogger(__name__)

COOKIE: Final = "__Host-twinhull"
CSRF_HEADER: Final = "X-CSRF-Token"
_LONGEST_TOKEN: Final = 16384


@dataclass
class Gate:
    """Who comes in, and whether they still may."""

    sessions: Sessions
    access: Access
    each: Throttle
    all: Throttle

    async def admit(self, request: web.Request, *, strict: bool = False) -> Session:
        """The request's session. ``strict``: by the API server's word at this moment. Raises RefusalError."""
        session = self.sessions.find(request.cookies.get(COOKIE, ""))
        if session is None:
            raise RefusalError(401, "SignedOut", "You are not signed in, or your session has ended.")
        await self.review(session, strict=strict)
        return session

    async def admit_change(self, request: web.Request, *, strict: bool = True) -> Session:
        """The same for a request that changes something."""
        check_origin(request)
        session = await self.admit(request, strict=strict)
        if not session.is_csrf(request.headers.get(CSRF_HEADER, "")):
            raise RefusalError(
                403, "NoCsrfToken", "This request does not carry your session's token. Load the page anew."
            )
        return session

    async def review(self, session: Session, *, strict: bool = False) -> None:
        """Ask from time to time whether the token is still good. Raises RefusalError."""
        if not self.sessions.is_open(session):
            raise RefusalError(401, "SessionEnded", "Your session has ended. Sign in again.")
        if not strict and not self.sessions.needs_review(session):
            return
        try:
            user = await self.access.identify(session.token)
        except ForeignTokenError as error:
            self.sessions.end(session)
            raise RefusalError(401, "TokenExpired", str(error)) from error
        except ApiError as error:
            if strict:
                raise _api_refusal(
                    error, "Nothing was done. On a node, twinhullctl gives orders without it."
                ) from error
            # Who is in may go on looking: that is when a console is needed most.
            self.sessions.reviewed(session)
            return
        if user.name != session.user.name:
            self.sessions.end(session)
            raise RefusalError(401, "TokenExpired", "This token belongs to somebody else now. Sign in again.")
        session.user = user
        self.sessions.reviewed(session)


class Handlers:
    """See server for the paths."""

    def __init__(self, gate: Gate, desk: Desk) -> None:
        self._gate = gate
        self._desk = desk

    async def login(self, request: web.Request) -> web.Response:
        """``{"token": ...}``: begins a session."""
        check_origin(request)
        gate, key = self._gate, address_key(request.remote)
        wait = gate.each.wait(key) or gate.all.wait("")
        if wait:
            seconds = max(1, round(wait + 0.5))
            raise RefusalError(
                429,
                "TooManyAttempts",
                f"Too many attempts to sign in. Try again in {seconds} s.",
                headers={"Retry-After": str(seconds)},
            )
        token = _text(await _body(request), "token").strip()
        if not token or len(token) > _LONGEST_TOKEN or not (token.isascii() and token.isprintable()):
            raise RefusalError(400, "NoToken", "That is not a token: it is one line of letters and digits.")
        try:
            user = await gate.access.identify(token)
        except ForeignTokenError as error:
            log.warning("a sign-in from %s was refused", key)
            raise RefusalError(401, "ForeignToken", str(error)) from error
        except ApiError as error:
            raise _api_refusal(
                error, "Nobody can sign in until it does. On a node, use twinhullctl."
            ) from error
        gate.each.forgive(key)
        gate.all.forgive("")
        if (old := gate.sessions.find(request.cookies.get(COOKIE, ""))) is not None:
            gate.sessions.end(old)
        session = gate.sessions.begin(user, token)
        gate.access.forget(user)
        log.info("%s signed in from %s", printable(user.name), key)
        answer = json_answer(_describe(session))
        answer.set_cookie(COOKIE, session.id, path="/", secure=True, httponly=True, samesite="Strict")
        return answer

    async def session(self, request: web.Request) -> web.Response:
        """Who is signed in, or why nobody is: no fault, since the page asks before it knows."""
        try:
            return json_answer(_describe(await self._gate.admit(request)))
        except RefusalError as refusal:
            return json_answer({"user": None, "code": refusal.code, "message": refusal.message})

    async def logout(self, request: web.Request) -> web.Response:
        """Ends the session, here and in the browser."""
        check_origin(request)
        session = self._gate.sessions.find(request.cookies.get(COOKIE, ""))
        if session is not None:
            if not session.is_csrf(request.headers.get(CSRF_HEADER, "")):
                raise RefusalError(403, "NoCsrfToken", "This request does not carry your session's token.")
            self._gate.sessions.end(session)
            log.info("%s signed out", printable(session.user.name))
        answer = json_answer({})
        answer.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        return answer

    async def plan(self, request: web.Request) -> web.Response:
        """What an order will do, and whether this user may give it."""
        session = await self._gate.admit(request)
        query = request.query
        return json_answer(
            await self._desk.explain(session.user, query.get("module", ""), query.get("plan", ""))
        )

    async def order(self, request: web.Request) -> web.Response:
        """``{"module", "plan", "stamp", "confirm"}``: gives an order."""
        session = await self._gate.admit_change(request)
        body = await _body(request)
        wish = Wish(_text(body, "plan"), _text(body, "stamp"), _text(body, "confirm"))
        given = await self._desk.order(session.user, _text(body, "module"), wish)
        return json_answer({"id": given.id}, status=202)


def _describe(session: Session) -> dict[str, Any]:
    return {
        "user": session.user.name,
        "groups": list(session.user.groups),
        "csrf": session.csrf,
        "endsAt": session.ends_at,
    }


def _api_refusal(error: ApiError, rest: str) -> RefusalError:
    if is_outage(error):
        return RefusalError(503, "ApiServerDown", f"The API server does not answer ({error.message}). {rest}")
    return RefusalError(
        500,
        "OperatorForbidden",
        f"The API server refused the operator's question ({error.message}). "
        "Is the console enabled in the chart's values, and rbac.create true?",
    )


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise RefusalError(400, "NotJson", "The request's body is not JSON.") from error
    if not isinstance(body, dict):
        raise RefusalError(400, "NotJson", "The request's body is not a JSON object.")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise RefusalError(400, "NotText", f"{name} is not a text.")
    return value
