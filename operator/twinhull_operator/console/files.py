"""The page's own files, read once. Nothing else can be asked for, whatever a path says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from aiohttp import web

_TYPES: Final[Mapping[str, str]] = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class File:
    """A file's content, type and tag."""

    body: bytes
    content_type: str
    tag: str


def read_files() -> dict[str, File]:
    """All files of ``static`` by name."""
    found = {}
    for entry in (resources.files("twinhull_operator.console") / "static").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            body = entry.read_bytes()
            found[entry.name] = File(body, kind, hashlib.sha256(body).hexdigest()[:32])
    return found


class Files:
    """Serves them."""

    def __init__(self) -> None:
        self._files = read_files()

    async def page(self, request: web.Request) -> web.Response:
        """The one page."""
        return self._answer(request, "index.html")

    async def file(self, request: web.Request) -> web.Response:
        """What the page loads."""
        return self._answer(request, request.match_info["name"])

    def _answer(self, request: web.Request, name: str) -> web.Response:
        file = self._files.get(name)
        if file is None:
            raise web.HTTPNotFound
        tags = request.if_none_match or ()
        same = any(tag.value == file.tag for tag in tags)
        response = web.Response(
            status=304 if same else 200,
            body=None if same else file.body,
            content_type=file.content_type,
            charset=None if file.content_type.startswith("image/") else "utf-8",
            # Asked for again each time: an upgraded operator has other files.
            headers={"Cache-Control": "no-cache"},
        )
        response.etag = file.tag
        return response
