"""Debian's Chromium, headless, on a console that is served on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.unit.operator.console_bench import Bench, serving

T = TypeVar("T")
SECONDS = 20.0
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--ignore-certificate-errors",
    "--window-size=1280,1100",
    "--lang=en",
)


@contextmanager
def served() -> Iterator[Bench]:
    """A console in a thread of its own; what its bench keeps may be replaced from here."""
    started: list[Bench] = []
    stop, ready = asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with serving() as bench:
            started.append(bench)
            ready.set()
            await stop.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(SECONDS)
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(SECONDS)
        loop.close()


class Browser:
    """What a test does with a page."""

    def __init__(self, driver: webdriver.Chrome, base: str) -> None:
        self.driver = driver
        self.base = base

    def open(self, token: str = "t-alice") -> None:
        """Load the page and sign in."""
        self.driver.get(self.base)
        self.until(lambda: self.one("#token").is_displayed())
        self.one("#token").send_keys(token, Keys.ENTER)
        self.until(lambda: self.all("#modules > *") and "Loading" not in self.text("#modules"))

    def one(self, selector: str) -> WebElement:
        """The element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All such elements."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What one reads there; a page that is just being drawn is read again."""
        for _ in range(5):
            try:
                return " ".join(element.text for element in self.all(selector))
            except StaleElementReferenceException:
                continue
        return ""

    def said(self) -> str:
        """What a screen reader was told last."""
        return str(self.run("return document.getElementById('said').textContent"))

    def card(self, key: str) -> str:
        """A selector of a module's card."""
        return f'article[data-key="{key}"]'

    def button(self, key: str, plan: str) -> WebElement:
        """A module's button for a plan."""
        return self.one(f'{self.card(key)} button[data-plan="{plan}"]')

    def press(self, *keys: str) -> None:
        """Type, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], T], seconds: float = SECONDS) -> T:
        """What ``condition`` returns as soon as it is true; an element that is not there yet is waited for."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except (StaleElementReferenceException, NoSuchElementException):
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(self.text("body"))
            time.sleep(0.1)

    def look(self, *, scheme: str = "light", width: int = 1280, height: int = 1100) -> None:
        """Show the page in this colour scheme and size."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        time.sleep(0.3)

    def picture(self, path: Path) -> None:
        """A picture of the page."""
        self.driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """What the browser's console has to say."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def barriers(self) -> list[str]:
        """What axe finds to be serious or critical."""
        self.run((resources.files("axe_core_python") / "axe.min.js").read_text())
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document).then((found) => done(found.violations), (error) => done([{id: String(error)}]));"
        )
        return [
            f"{rule['id']}: {[node['target'] for node in rule.get('nodes', [])]}"
            for rule in found
            if rule.get("impact", "critical") in ("serious", "critical")
        ]


@contextmanager
def browser(base: str) -> Iterator[Browser]:
    """A browser without a past."""
    options = webdriver.ChromeOptions()
    for switch in SWITCHES:
        options.add_argument(switch)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield Browser(driver, base)
    finally:
        driver.quit()
