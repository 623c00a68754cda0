"""The web console in Chromium on the cluster: a click moves PostgreSQL, and the page follows a power cut to its end.

Pictures of every state are left in ``build/pictures`` (``make pictures`` puts them into docs/images).
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.cluster import kind, power
from tests.cluster.command import environment, run
from tests.cluster.deployment import HOLDER_OF_API, NAMESPACE, Module, move_to, other
from tests.cluster.rows import RowsClient
from tests.cluster.topology import KUBECONFIG, REPOSITORY
from tests.e2e.conftest import Deploy
from tests.figures import figure
from tests.lab.console_browser import Browser, browser

PICTURES = Path(os.environ.get("TWINHULL_PICTURES", REPOSITORY / "build" / "pictures"))
KEY = "MirrorModule/default/postgres"
FILLER_MEGABYTES = 160


def set_console(*values: str) -> None:
    """The chart's values for this test; the operator stays on the node that keeps its power."""
    run(
        "helm", "upgrade", "twinhull", REPOSITORY / "charts/twinhull", f"--kubeconfig={KUBECONFIG}",
        f"--namespace={NAMESPACE}", "--reuse-values", *values, "--wait", "--timeout=120s",
    )  # fmt: skip


@pytest.fixture
def console(cluster: None) -> Iterator[str]:
    """The console behind ``kubectl port-forward``, as docs/console.md has it; its address."""
    name = HOLDER_OF_API.name
    set_console(
        "--set=console.enabled=true", f"--set-string=operator.nodeSelector.kubernetes\\.io/hostname={name}"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["kubectl", f"--kubeconfig={KUBECONFIG}", "port-forward", f"--namespace={NAMESPACE}"]
    forward = subprocess.Popen([*command, "service/twinhull-console", f"{port}:443"], env=environment())
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "kubectl port-forward does not listen"
                time.sleep(0.2)
        yield f"https://127.0.0.1:{port}"
    finally:
        forward.terminate()
        forward.wait(20)
        set_console(
            "--set=console.enabled=false", "--set=operator.nodeSelector.kubernetes\\.io/hostname=null"
        )


@pytest.fixture
def token(cluster: None) -> Iterator[str]:
    """A token of a service account that may give every order."""
    kind.kubectl("create", "serviceaccount", "anna")
    kind.kubectl(
        "create",
        "rolebinding",
        "anna",
        "--clusterrole=twinhull-administrator",
        "--serviceaccount=default:anna",
    )
    try:
        yield kind.kubectl("create", "token", "anna", "--duration=1h").strip()
    finally:
        kind.kubectl("delete", "serviceaccount,rolebinding", "anna", "--ignore-not-found")


def limit_resync(module: dict[str, Any]) -> None:
    """A resynchronisation that is long enough to be looked at."""
    module["spec"].setdefault("replication", {})["resyncRateLimit"] = "8Mi"


def click(page: Browser, plan: str) -> None:
    """Click an order's button as soon as it is there; a page that is just being drawn is tried again."""

    def clicked() -> bool:
        page.button(KEY, plan).click()
        return True

    page.until(clicked, 60)


def give(page: Browser, plan: str) -> None:
    """Click an order and confirm it."""
    page.until(lambda: page.button(KEY, plan).get_attribute("data-refused") is None, 60)
    click(page, plan)
    page.until(lambda: page.all("dialog button[type=submit]"))
    page.one("dialog button[type=submit]").click()


def finished(page: Browser, action: str, seconds: float = 90) -> None:
    """Wait until the page says that the order is done."""
    page.until(
        lambda: any(
            action in order.text and "done" in order.text for order in page.all(f"{page.card(KEY)} .order")
        ),
        seconds,
    )


def shows(page: Browser, *texts: str, seconds: float = 90) -> None:
    """Wait until the module's card says all of this."""
    page.until(lambda: all(text in page.text(page.card(KEY)) for text in texts), seconds)


def picture(page: Browser, state: str) -> None:
    """Take the state's pictures while it lasts, then look for barriers."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    looks = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 390)}
    for name, (scheme, width) in looks.items():
        page.look(scheme=scheme, width=width, height=900)
        page.picture(PICTURES / f"console-{state}-{name}.png")
    for name, (scheme, width) in looks.items():
        page.look(scheme=scheme, width=width, height=900)
        assert page.barriers() == [], (state, name)
    page.look()


@pytest.mark.timeout(1200)
def test_clicks_move_postgresql_and_the_page_follows_a_power_cut(
    postgres: Deploy, console: str, token: str, client: Callable[[], RowsClient]
) -> None:
    module: Module = postgres(limit_resync)
    move_to(module, HOLDER_OF_API)
    rows = client()
    lost = other(HOLDER_OF_API)
    with browser(console) as page:
        page.open(token)
        shows(page, "Protected", f"answered by {HOLDER_OF_API.name}")
        give(page, "verify::")
        finished(page, "verify")
        shows(page, "both nodes hold the same")
        picture(page, "healthy")

        begin = time.monotonic()
        give(page, f"switchover:{HOLDER_OF_API.name}:")
        finished(page, "switchover")
        followed = time.monotonic() - begin
        shows(page, f"answered by {lost.name}", "Protected")
        assert module.serving_node() == lost
        rows.wait_for_commit(time.monotonic())
        figure(
            f"console: click to the order's end on the page {followed:.1f} s; interruption seen by the client "
            f"{rows.rows().longest_gap(begin):.2f} s"
        )

        give(page, "hold::")
        finished(page, "hold")
        shows(page, "holds failover")
        power.cut(lost)
        shows(page, "Waiting", "Failover is held by order")
        picture(page, "waiting")

        # What the dead node may have done alone meanwhile only an administrator knows.
        click(page, f"force-primary:{HOLDER_OF_API.name}:")
        page.until(lambda: page.all("#confirm"))
        page.one("#confirm").send_keys(HOLDER_OF_API.name, Keys.ENTER)
        shows(page, "Alone", f"answered by {HOLDER_OF_API.name}")
        rows.wait_for_commit(time.monotonic())
        picture(page, "alone")
        give(page, "resume::")
        finished(page, "resume")

        fill(module)
        power.restore(lost)
        shows(page, "resynchronising", " MiB", seconds=180)
        picture(page, "resyncing")
        shows(page, "Protected", seconds=180)
        assert [text for text in page.complaints() if "favicon" not in text] == []
    assert rows.judge() == []


def fill(module: Module) -> None:
    """Write something that the other node has to get."""
    pods = kind.kubectl(
        "get", "pods", f"--selector=twinhull.dev/module={module.name}",
        f"--field-selector=spec.nodeName={HOLDER_OF_API.name}", "-o", "name",
    ).split()  # fmt: skip
    kind.kubectl(
        "exec", pods[0], "-c", "postgres", "--", "dd", "if=/dev/urandom",
        "of=/var/lib/postgresql/data/filler", "bs=1M", f"count={FILLER_MEGABYTES}",
    )  # fmt: skip
