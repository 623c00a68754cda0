"""A console with an API server and modules that a test scripts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.unit.operator.samples import farm, healthy, healthy_farm, module
from twinhull_operator.console.server import Console
from twinhull_operator.console.settings import ConsoleSettings
from twinhull_operator.kube import ApiError, Kube, Resource
from twinhull_operator.metrics.view import ModuleView
from twinhull_operator.module import Module, Object
from twinhull_operator.report import NodeReport
from twinhull_operator.status_module import Findings, render_status
from twinhull_sidecar.api import sidecar_pb2 as pb

MIRROR_KEY = "MirrorModule/db/postgres"
FARM_KEY = "FarmModule/db/front"
ALL = frozenset(
    {"get", "switchover", "start", "stop", "restart", "resync", "verify", "repair", "force-primary", "drain"}
    | {"hold", "resume"}
)


class FakeKube(Kube):
    """Answers reviews from ``tokens`` (token to user) and ``rights`` (user to verbs), and keeps events."""

    def __init__(self) -> None:
        self.tokens = {"t-alice": "alice", "t-bob": "bob", "t-eve": "eve"}
        self.rights: dict[str, frozenset[str]] = {"alice": ALL, "bob": frozenset({"get"})}
        self.namespaces: dict[str, str] = {}
        self.events: list[Object] = []
        self.reviews: list[Object] = []
        self.down = False
        self.expired: set[str] = set()

    async def review(self, resource: Resource, body: Object) -> Object:
        """See Kube."""
        self._check()
        self.reviews.append(body)
        spec = body["spec"]
        if resource.plural == "tokenreviews":
            token = spec["token"]
            if token in self.expired:
                return {"status": {"error": "[invalid bearer token, token has expired]"}}
            user = self.tokens.get(token)
            known = {"authenticated": True, "user": {"username": user, "groups": ["system:authenticated"]}}
            return {"status": known if user else {"error": "invalid bearer token"}}
        wanted = spec["resourceAttributes"]
        allowed = wanted["verb"] in self.rights.get(spec["user"], ())
        only = self.namespaces.get(spec["user"])
        return {"status": {"allowed": allowed and only in (None, wanted["namespace"])}}

    async def version(self) -> Object:
        """See Kube."""
        self._check()
        return {}

    async def create(self, resource: Resource, body: Object) -> bool:
        """See Kube."""
        self._check()
        self.events.append(body)
        return True

    async def close(self) -> None:
        """See Kube."""

    def _check(self) -> None:
        if self.down:
            raise ApiError(0, "Unreachable", "the API server does not answer (no route)")


def mirror_view(reports: Sequence[NodeReport] | None = None, made: Module | None = None) -> ModuleView:
    """A mirror with these reports, healthy if none are given."""
    return _view(made or module(), healthy() if reports is None else reports)


def farm_view(reports: Sequence[NodeReport] | None = None, made: Module | None = None) -> ModuleView:
    """A farm likewise."""
    return _view(made or farm(), healthy_farm() if reports is None else reports)


def _view(made: Module, reports: Sequence[NodeReport]) -> ModuleView:
    findings = Findings()
    status = render_status(made, reports, findings, {}, now=1.0)
    kept = {key: value for key, value in status.items() if value is not None}
    return ModuleView(made, reports, kept, findings=findings)


@dataclass
class FakeModules:
    """Keeps what a test says, and the orders that come."""

    shown: list[ModuleView] = field(default_factory=lambda: [mirror_view(), farm_view()])
    orders: list[dict[str, Any]] = field(default_factory=list)
    reply: pb.OrderReply = field(default_factory=lambda: pb.OrderReply(accepted=True))
    delay: float = 0.0

    def views(self) -> list[ModuleView]:
        """See Modules."""
        return list(self.shown)

    async def order(
        self, module: Module, node: str, action: str, user: str, identifier: str, *, discard_peer: bool
    ) -> pb.OrderReply:
        """See Modules."""
        await asyncio.sleep(self.delay)
        self.orders.append(
            {"module": module.key, "node": node, "action": action, "user": user, "discard": discard_peer}
        )
        return pb.OrderReply(accepted=self.reply.accepted, message=self.reply.message, id=identifier)


class Page:
    """A browser's page: cookies, and the session's token after a sign-in."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.http = session
        self.base = base
        self.csrf = ""

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        """As the page does it; a header that is empty is left out."""
        usual = {"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": self.csrf} | headers
        sent = {name: value for name, value in usual.items() if value}
        async with self.http.post(self.base + path, json=body, headers=sent) as response:
            return response.status, await response.json()

    async def get(self, path: str, **query: str) -> tuple[int, dict[str, Any]]:
        """Ask for JSON."""
        async with self.http.get(self.base + path, params=query) as response:
            return response.status, await response.json()

    async def login(self, token: str = "t-alice") -> int:
        """Sign in; the HTTP status."""
        status, answer = await self.post("/api/login", {"token": token})
        self.csrf = answer.get("csrf", self.csrf)
        return status

    async def user(self) -> str | None:
        """Who is signed in."""
        _, session = await self.get("/api/session")
        name: str | None = session["user"]
        return name

    async def order(self, key: str, plan: str, **fields: str) -> tuple[int, dict[str, Any]]:
        """Look at a plan and confirm it."""
        status, found = await self.get("/api/plan", module=key, plan=plan)
        if status != 200:
            return status, found
        body = {"module": key, "plan": plan, "stamp": found["stamp"]} | fields
        return await self.post("/api/orders", body)


@dataclass
class Bench:
    """A console that is served on loopback."""

    kube: FakeKube
    modules: FakeModules
    base: str
    console: Console

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """A browser."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(
            cookie_jar=jar, connector=aiohttp.TCPConnector(ssl=False)
        ) as session:
            yield Page(session, self.base)


@asynccontextmanager
async def serving() -> AsyncIterator[Bench]:
    """A console as the operator starts it, except for what it talks to."""
    kube, modules = FakeKube(), FakeModules()
    console = Console(modules, kube, ConsoleSettings(port=0))
    port = await console.start("127.0.0.1")
    assert port
    try:
        yield Bench(kube, modules, f"https://127.0.0.1:{port}", console)
    finally:
        await console.close()


def events(*messages: str) -> list[pb.Event]:
    """A sidecar's events, a second apart, the last one now."""
    now = time.time()
    return [
        pb.Event(time=now - len(messages) + number, type="Normal", code="Note", message=message)
        for number, message in enumerate(messages, 1)
    ]


async def read_event(content: aiohttp.StreamReader, name: str) -> Any:
    """The data of the next event of this name in a stream."""
    found = ""
    async with asyncio.timeout(10):
        while True:
            line = (await content.readline()).decode().rstrip("\n")
            if line.startswith("event: "):
                found = line.removeprefix("event: ")
            elif line.startswith("data: ") and found == name:
                return json.loads(line.removeprefix("data: "))
