"""What the console answers when it does not do what was asked: a code, what is wrong, what mends it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web


class RefusalError(Exception):
    """Ends a request. ``code`` is stable CamelCase, ``fields`` go to the page beside it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.fields = fields

    def answer(self) -> web.Response:
        """As the page gets it."""
        body = {"error": {"code": self.code, "message": self.message, **self.fields}}
        return json_answer(body, status=self.status, headers=self.headers)


def json_answer(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON that no page of another origin can make a script of, and no cache keeps."""
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type="application/json",
    )
