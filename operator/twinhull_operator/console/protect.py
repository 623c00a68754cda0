"""What keeps browsers from being used against the console: headers of each answer, origin of each order."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from twinhull_operator.console.refuse import RefusalError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
TRANSPORT: Final = {"Strict-Transport-Security": "max-age=31536000"}
"""Only with a certificate that browsers know: with another they would no longer let anyone in."""


def headers_of(*, known_certificate: bool) -> dict[str, str]:
    """The headers of every answer."""
    return {**HEADERS, **(TRANSPORT if known_certificate else {}), "Server": "twinhull"}


def add_headers(headers: Mapping[str, str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For aiohttp's signal before each answer, streams and its own errors among them."""

    async def before(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(headers)

    return before


@web.middleware
async def answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals and defects become an answer that the page can show; nothing of a defect is told outside."""
    try:
        return await handler(request)
    except RefusalError as refusal:
        return refusal.answer()
    except web.HTTPException as error:
        code = error.reason.title().replace(" ", "")
        return RefusalError(error.status, code, error.reason).answer()
    except Exception:
        log.exception("%s %s: unexpected error", request.method, request.path)
        return RefusalError(
            500, "InternalError", "The console failed; its log on the operator's pod says more."
        ).answer()


def check_origin(request: web.Request) -> None:
    """That the console's own page sent it. Raises RefusalError.

    Browsers say where a request comes from and no script can change that: Sec-Fetch-Site, or Origin in older
    ones. What says neither is not the page.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = site == "same-origin" if site is not None else origin is not None and _is_own(origin, request.host)
    if not own:
        raise RefusalError(403, "ForeignOrigin", "This request was not sent by the console's own page.")
    if request.content_type != "application/json":
        raise RefusalError(415, "NotJson", "Requests to the console are JSON.")


def _is_own(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False
