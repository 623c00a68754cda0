"""Who gets into the console, and what each may see and do there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.operator.console_bench import (
    FARM_KEY,
    MIRROR_KEY,
    Bench,
    FakeKube,
    FakeModules,
    mirror_view,
    read_event,
    serving,
)
from tests.unit.operator.samples import healthy
from twinhull_operator.console import sessions
from twinhull_operator.console import stream as stream_module
from twinhull_operator.console.server import Console
from twinhull_operator.console.settings import ConsoleSettings

SWITCHOVER = "switchover:node-a:"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A console of the test's own."""
    async with serving() as made:
        yield made


async def test_nothing_is_told_without_a_session(bench: Bench) -> None:
    async with bench.page() as page:
        _, session = await page.get("/api/session")
        assert (session["user"], session["code"]) == (None, "SignedOut")
        for path in ("/api/stream", "/api/plan"):
            status, answer = await page.get(path)
            assert (status, answer["error"]["code"]) == (401, "SignedOut"), path
        status, _ = await page.post("/api/orders", {})
        assert status == 401


async def test_the_session_is_a_cookie_that_no_script_and_no_other_site_gets(bench: Bench) -> None:
    async with bench.page() as page:
        body, headers = {"token": " t-alice\n"}, {"Sec-Fetch-Site": "same-origin"}
        async with page.http.post(f"{bench.base}/api/login", json=body, headers=headers) as response:
            cookie = response.headers["Set-Cookie"]
            assert response.status == 200
        assert cookie.startswith("__Host-twinhull=")
        assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert "t-alice" not in cookie
        _, session = await page.get("/api/session")
        assert session["user"] == "alice"
        assert "t-alice" not in json.dumps(session)


@pytest.mark.parametrize(
    ("token", "code"),
    [("wrong", "ForeignToken"), ("", "NoToken"), ("zwei\nZeilen", "NoToken"), ("x" * 20000, "NoToken")],
)
async def test_a_token_that_is_none_is_refused(bench: Bench, token: str, code: str) -> None:
    async with bench.page() as page:
        _, answer = await page.post("/api/login", {"token": token})
        assert answer["error"]["code"] == code
        assert await page.user() is None


async def test_an_expired_token_is_called_so(bench: Bench) -> None:
    bench.kube.expired.add("t-alice")
    async with bench.page() as page:
        _, answer = await page.post("/api/login", {"token": "t-alice"})
        assert "expired" in answer["error"]["message"]


async def test_guessing_tokens_is_slowed_down_and_says_for_how_long(bench: Bench) -> None:
    async with bench.page() as page:
        statuses = [await page.login(f"guess-{number}") for number in range(11)]
        assert statuses == [401] * 10 + [429]
        _, answer = await page.post("/api/login", {"token": "t-alice"})
        assert answer["error"]["code"] == "TooManyAttempts"


async def test_signing_in_rightly_is_never_slowed_down(bench: Bench) -> None:
    async with bench.page() as page:
        assert [await page.login() for _ in range(15)] == [200] * 15


async def test_signing_out_ends_the_session_for_good(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        stolen = {c.key: c.value for c in page.http.cookie_jar}
        assert (await page.post("/api/logout", {}))[0] == 200
        async with page.http.get(f"{bench.base}/api/session", cookies=stolen) as response:
            assert (await response.json())["user"] is None


async def test_a_session_that_a_browser_proposes_is_not_taken_over(bench: Bench) -> None:
    async with bench.page() as page:
        page.http.cookie_jar.update_cookies({"__Host-twinhull": "fixed"})
        await page.login()
        assert {c.value for c in page.http.cookie_jar if c.key == "__Host-twinhull"} != {"fixed"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.test"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
        {"Sec-Fetch-Site": ""},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "another"},
    ],
)
async def test_an_order_that_another_page_sent_is_refused(bench: Bench, headers: dict[str, str]) -> None:
    async with bench.page() as page:
        await page.login()
        _, plan = await page.get("/api/plan", module=MIRROR_KEY, plan=SWITCHOVER)
        body = {"module": MIRROR_KEY, "plan": SWITCHOVER, "stamp": plan["stamp"]}
        status, answer = await page.post("/api/orders", body, **headers)
        assert status == 403, answer
        assert bench.modules.orders == []
        assert (await page.post("/api/orders", body))[0] == 202


async def test_a_form_of_another_site_cannot_be_an_order(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        headers = {"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": page.csrf}
        async with page.http.post(
            f"{bench.base}/api/orders", data={"module": "x"}, headers=headers
        ) as response:
            assert response.status == 415


async def test_who_may_only_look_is_told_which_right_an_order_needs(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login("t-bob")
        _, plan = await page.get("/api/plan", module=MIRROR_KEY, plan=SWITCHOVER)
        assert "verb switchover on mirrormodules in the namespace db" in plan["forbidden"]
        status, answer = await page.order(MIRROR_KEY, SWITCHOVER)
        assert (status, answer["error"]["code"]) == (403, "Forbidden")
        assert bench.modules.orders == []


async def test_who_may_see_nothing_sees_nothing_and_cannot_tell_whether_it_exists(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login("t-eve")
        there = await page.get("/api/plan", module=MIRROR_KEY, plan=SWITCHOVER)
        missing = await page.get("/api/plan", module="MirrorModule/db/none", plan=SWITCHOVER)
        assert there == missing
        assert there[0] == 404
        async with page.http.get(f"{bench.base}/api/stream") as stream:
            assert await read_event(stream.content, "modules") == []


async def test_a_right_to_one_namespace_shows_that_namespace(bench: Bench) -> None:
    bench.kube.namespaces["bob"] = "db"
    async with bench.page() as page:
        await page.login("t-bob")
        async with page.http.get(f"{bench.base}/api/stream") as stream:
            keys = [shown["key"] for shown in await read_event(stream.content, "modules")]
        assert keys == [FARM_KEY, MIRROR_KEY]


async def test_a_page_follows_without_being_asked_and_without_the_api_server(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        async with page.http.get(f"{bench.base}/api/stream") as stream:
            await read_event(stream.content, "modules")
            asked = len(bench.kube.reviews)
            first, second = healthy()
            assert first.status is not None
            first.status.application.ready = False
            bench.modules.shown[0] = mirror_view([first, second])
            changed = await read_event(stream.content, "module")
            assert (changed["key"], changed["colour"]) == (MIRROR_KEY, "red")
            bench.modules.shown.pop(0)
            assert await read_event(stream.content, "gone") == MIRROR_KEY
            assert len(bench.kube.reviews) == asked


async def test_without_an_api_server_one_may_look_but_not_order(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        _, plan = await page.get("/api/plan", module=MIRROR_KEY, plan=SWITCHOVER)
        bench.kube.down = True
        body = {"module": MIRROR_KEY, "plan": SWITCHOVER, "stamp": plan["stamp"]}
        status, answer = await page.post("/api/orders", body)
        assert (status, answer["error"]["code"]) == (503, "ApiServerDown")
        assert "twinhullctl" in answer["error"]["message"]
        assert await page.user() == "alice"
        status, answer = await page.post("/api/login", {"token": "t-bob"})
        assert (status, answer["error"]["code"]) == (503, "ApiServerDown")


async def test_an_order_with_a_token_that_has_been_revoked_is_refused_at_once(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        _, plan = await page.get("/api/plan", module=MIRROR_KEY, plan=SWITCHOVER)
        bench.kube.tokens.clear()
        body = {"module": MIRROR_KEY, "plan": SWITCHOVER, "stamp": plan["stamp"]}
        status, answer = await page.post("/api/orders", body)
        assert (status, answer["error"]["code"]) == (401, "TokenExpired")
        assert await page.user() is None
        assert bench.modules.orders == []


async def test_every_answer_has_the_headers_that_keep_browsers_safe(bench: Bench) -> None:
    async with bench.page() as page:
        for path in ("/", "/static/app.js", "/api/session", "/nothing", "/static/..%2fserver.py"):
            async with page.http.get(bench.base + path) as response:
                policy = response.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["X-Frame-Options"] == "DENY"
                assert response.headers["Referrer-Policy"] == "no-referrer"
                assert response.headers["Server"] == "twinhull"
                # With a certificate that nobody knows it would lock the browser out.
                assert "Strict-Transport-Security" not in response.headers
                if path.startswith("/api"):
                    assert response.headers["Cache-Control"] == "no-store"


async def test_only_the_pages_own_files_are_served(bench: Bench) -> None:
    async with bench.page() as page:
        for path in ("/static/server.py", "/static/%2e%2e/server.py", "/static/", "/..%2f..%2fkube.py"):
            async with page.http.get(bench.base + path) as response:
                assert response.status == 404, path


async def test_an_operator_that_stops_says_so_to_open_pages_and_does_not_wait_for_them(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        async with page.http.get(f"{bench.base}/api/stream") as stream:
            await read_event(stream.content, "modules")
            async with asyncio.timeout(2):
                await bench.console.close()
            assert (await read_event(stream.content, "ended"))["code"] == "OperatorStops"


async def test_a_console_that_cannot_be_served_is_logged_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    console = Console(FakeModules(), FakeKube(), ConsoleSettings(port=0, certificate=tmp_path))
    assert await console.start("127.0.0.1") == 0
    await console.close()
    assert "tls.crt" in caplog.text


async def test_a_page_left_open_for_a_night_is_told_that_its_session_has_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LONGEST", 0.5)
    monkeypatch.setattr(stream_module, "BEAT", 0.2)
    async with bench.page() as page:
        await page.login()
        async with page.http.get(f"{bench.base}/api/stream") as stream:
            ended = await read_event(stream.content, "ended")
        assert ended == {"code": "SessionEnded", "message": "Your session has ended. Sign in again."}
        status, answer = await page.post("/api/orders", {})
        assert (status, answer["error"]["code"]) == (401, "SignedOut")
