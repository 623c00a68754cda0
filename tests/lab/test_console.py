"""The console of a running operator against a real API server: its tokens, its permissions, its events."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.cluster.topology import KUBERNETES_VERSION, REPOSITORY
from tests.lab.api_server import ApiServer, api_server
from tests.lab.operator_process import NAMESPACE, Script, eventually, grant_rights, operator, start_sidecar
from tests.lab.test_chart import run_helm
from tests.lab.test_resource_rules import manifest
from tests.unit.operator.console_bench import Page, read_event
from twinhull_sidecar.api import sidecar_pb2 as pb

__all__ = ["api_server"]
ROLES = ("viewer", "operator-user", "administrator")
KEY = "MirrorModule/{namespace}/pg"


@dataclass
class Site:
    """An operator with a console, a module with two sidecars, and an account of each role."""

    server: ApiServer
    namespace: str
    base: str
    a: Script
    b: Script

    @property
    def key(self) -> str:
        """The module as the console names it."""
        return KEY.format(namespace=self.namespace)

    def token(self, account: str) -> str:
        """A token of an account."""
        return self.server.kubectl("create", "token", account, "-n", self.namespace).strip()

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """A browser."""
        jar = aiohttp.CookieJar(unsafe=True)
        connector = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as session:
            yield Page(session, self.base)


@pytest.fixture(scope="module")
def rights(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's kubeconfig, with what the chart adds for the console."""
    path = grant_rights(api_server, tmp_path_factory.mktemp("rights"))
    chart = str(REPOSITORY / "charts" / "twinhull")
    flags = (f"--namespace={NAMESPACE}", f"--kube-version={KUBERNETES_VERSION}", "--set=console.enabled=true")
    rendered = run_helm("template", "twinhull", chart, *flags, "--show-only=templates/console.yaml").stdout
    for document in yaml.safe_load_all(rendered):
        if document["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            api_server.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    return path


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[str]:
    """A namespace with an account of each role, and one without any."""
    name = f"c{time.monotonic_ns()}"
    api_server.kubectl("create", "namespace", name)
    for role in (*ROLES, "nobody"):
        api_server.kubectl("create", "serviceaccount", role, "-n", name)
    for role in ROLES:
        binding = (f"--clusterrole=twinhull-{role}", f"--serviceaccount={name}:{role}")
        api_server.kubectl("create", "rolebinding", role, "-n", name, *binding)
    yield name
    api_server.kubectl("delete", "mirrormodules", "--all", "-n", name, "--timeout=20s")


@pytest.fixture
async def site(
    api_server: ApiServer, rights: Path, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    """Everything, in sync."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    monkeypatch.setenv("TWINHULL_CONSOLE_PORT", str(port))
    made = manifest("pg")
    made["metadata"]["namespace"] = namespace
    api_server.apply(made)
    with operator(rights, tmp_path / "operator.log"):

        def ready() -> dict[str, Any] | None:
            found = api_server.get("mirrormodule", "pg", "-n", namespace)
            return found if found.get("status", {}).get("conditions") else None

        module = await eventually(ready)
        first, a = await start_sidecar(api_server, module, "node-a", "127.0.0.11", tmp_path)
        second, b = await start_sidecar(api_server, module, "node-b", "127.0.0.12", tmp_path)
        await a.say(
            role="Primary",
            in_sync=True,
            reason="serves",
            application=pb.Application(phase="Running", ready=True),
            virtual_ips=[pb.VirtualIP(address="192.168.10.50", interface="eth0", held=True)],
            peer=pb.Peer(node="node-b", heard=True, role="Secondary"),
        )
        await b.say(role="Secondary", in_sync=True, peer=pb.Peer(node="node-a", heard=True, role="Primary"))
        yield Site(api_server, namespace, f"https://127.0.0.1:{port}", a, b)
        await first.stop(0)
        await second.stop(0)


async def until(stream: aiohttp.ClientResponse, key: str, **fields: Any) -> dict[str, Any]:
    """The module's page as soon as these fields have these values."""
    async with asyncio.timeout(30):
        while True:
            page: dict[str, Any] = await read_event(stream.content, "module")
            if page["key"] == key and fields.items() <= page.items():
                return page


async def protected(site: Site, page: Page) -> aiohttp.ClientResponse:
    """An open stream, as soon as the module is protected."""
    stream = await page.http.get(f"{site.base}/api/stream")
    shown = await read_event(stream.content, "modules")
    if [module["colour"] for module in shown] != ["green"]:
        await until(stream, site.key, colour="green")
    return stream


async def test_an_order_moves_the_module_and_kubernetes_knows_who_gave_it(site: Site) -> None:
    async with site.page() as page:
        assert await page.login(site.token("operator-user")) == 200
        user = f"system:serviceaccount:{site.namespace}:operator-user"
        assert await page.user() == user
        stream = await protected(site, page)
        status, given = await page.order(site.key, "switchover:node-a:")
        assert status == 202, given
        assert site.a.orders == ["switchover"]
        ready, off = pb.Application(phase="Running", ready=True), pb.Application(phase="Held", ready=False)
        done = pb.LastOrder(id=given["id"], action="switchover", state="done", message="handed over")
        site.a.now.application.Clear()
        site.a.now.virtual_ips[0].held = False
        await site.b.say(
            role="Primary",
            application=ready,
            virtual_ips=[pb.VirtualIP(address="192.168.10.50", interface="eth0", held=True)],
            peer=pb.Peer(role="Secondary"),
        )
        peer = pb.Peer(role="Primary")
        started = time.monotonic()
        await site.a.say(role="Secondary", application=off, last_order=done, peer=peer)
        shown = await until(stream, site.key, role="Primary", colour="green")
        while shown["orders"][0]["state"] != "done":
            shown = await until(stream, site.key)
        print(
            f"the page showed the end of the order {time.monotonic() - started:.2f} s after the sidecar said so"
        )
        assert shown["vips"][0]["answers"] == ["node-b"]
        stream.close()
    events = site.server.get("events", "-n", site.namespace)["items"]
    (event,) = (event for event in events if event["reason"] == "ConsoleOrder")
    assert event["message"] == f"{user} ordered switchover of node-a: node-a accepted"
    assert event["involvedObject"]["name"] == "pg"


async def test_a_comparison_by_a_click_is_followed_and_its_outcome_stays_in_the_resource(site: Site) -> None:
    async with site.page() as page:
        await page.login(site.token("operator-user"))
        stream = await protected(site, page)
        status, given = await page.order(site.key, "repair::")
        assert status == 202, given
        assert site.a.orders == ["repair"]
        done = pb.LastOrder(id=given["id"], action="repair", state="done", message="Comparing with node-b")
        begun = time.time()
        running = pb.Verification(running=True, repair=True, begun=begun, files=3)
        await site.a.say(last_order=done, verification=running)
        shown = await until(stream, site.key)
        while (shown["verification"] or {}).get("state") != "running":
            shown = await until(stream, site.key)
        block = pb.Difference(
            volume="data", path="base/1", what="content", offset=8192, length=4096, repaired=True
        )
        ended = pb.Verification(begun=begun, ended=begun + 60, repair=True, files=9, found=1, repaired=1)
        ended.differences.append(block)
        site.a.now.verification.Clear()
        await site.a.say(verification=ended)
        while shown["orders"][0]["state"] != "done":
            shown = await until(stream, site.key)
        assert shown["orders"][0]["message"] == "1 difference, all repaired"
        place = shown["verification"]["differences"][0]["place"]
        assert place == "content of data/base/1 at byte 8192, 4096 bytes"
        stream.close()

    def stored() -> tuple[str, bool]:
        found = site.server.get("mirrormodule", "pg", "-n", site.namespace)["status"]
        return found.get("verify", ""), "lastVerifyTime" in found

    await eventually(lambda: stored() == ("Repaired: 1 differences", True))


async def test_roles_of_the_chart_give_what_they_say_and_no_more(site: Site) -> None:
    async with site.page() as page:
        await page.login(site.token("viewer"))
        (await protected(site, page)).close()
        status, answer = await page.order(site.key, "stop::")
        assert (status, answer["error"]["code"]) == (403, "Forbidden")
    async with site.page() as page:
        await page.login(site.token("nobody"))
        async with page.http.get(f"{site.base}/api/stream") as stream:
            assert await read_event(stream.content, "modules") == []
        assert (await page.get("/api/plan", module=site.key, plan="stop::"))[0] == 404
    assert site.a.orders == []
    site.a.now.application.Clear()
    await site.a.say(role="Waiting", reason="cannot know that its data is the newest")
    await site.b.say(role="Waiting", peer=pb.Peer(role="Waiting"))
    plan = "force-primary:node-a:"
    for role, expected in (("operator-user", 403), ("administrator", 202)):
        async with site.page() as page:
            await page.login(site.token(role))
            stream = await page.http.get(f"{site.base}/api/stream")
            (shown,) = await read_event(stream.content, "modules")
            while plan not in {one["key"] for one in shown["plans"]}:
                shown = await until(stream, site.key)
            stream.close()
            status, answer = await page.order(site.key, plan, confirm="node-a")
            assert status == expected, answer
    assert site.a.orders == ["force-primary"]


async def test_foreign_and_revoked_tokens_are_refused(site: Site) -> None:
    async with site.page() as page:
        assert await page.login("foreign") == 401
        token = site.token("operator-user")
        wrong = f"{token[:-8]}AAAAAAAA"
        assert await page.login(wrong) == 401
        elsewhere = site.server.kubectl(
            *("create", "token", "viewer", "-n", site.namespace, "--audience=https://elsewhere.test")
        )
        assert await page.login(elsewhere.strip()) == 401
        assert await page.login(token) == 200
        (await protected(site, page)).close()
        site.server.kubectl("delete", "serviceaccount", "operator-user", "-n", site.namespace)
        # The API server remembers a token for some seconds. The order is one that cannot be carried out.
        body = {"module": site.key, "plan": "stop::", "stamp": "none"}
        for _ in range(60):
            status, answer = await page.post("/api/orders", body)
            if status != 409:
                break
            await asyncio.sleep(1)
        assert (status, answer["error"]["code"]) == (401, "TokenExpired")
        assert await page.user() is None
    assert site.a.orders == []
