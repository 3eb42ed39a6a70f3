"""A browser for tests: Debian's Chromium without a window, and without whatever it asks the world for.

`browser(url)` shows a page once; `Pages` drives one as a user would, by Playwright.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.proxy import TOP
from tests.support.servers import program

LIMIT = 60  # seconds
AXE = TOP / ".npm-tests/node_modules/axe-core/axe.min.js"
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server",
)  # fmt: skip
WIDE, NARROW = (1280, 900), (390, 844)

Scheme = Literal["light", "dark"]


def browser(url: str) -> str:
    """The document at `url` after its scripts have run."""
    with tempfile.TemporaryDirectory() as home:
        command = [
            program("chromium", "chromium"), "--headless", *OPTIONS,
            f"--user-data-dir={home}", "--virtual-time-budget=20000", "--dump-dom", url,
        ]  # fmt: skip
        environ = os.environ | {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Pages:
    """Of one browser. Whatever a page writes to its console, and every script that fails, is in `complaints`."""

    def __init__(self, started: Browser):
        self._browser = started
        self.complaints: list[str] = []

    @contextmanager
    def open(self, url: str, scheme: Scheme = "light", size: tuple[int, int] = WIDE) -> Iterator[Page]:
        """The page at `url`; what it asks for must come within LIMIT seconds."""
        width, height = size
        context = self._browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        try:
            page = context.new_page()
            page.set_default_timeout(LIMIT * 1000)
            page.on("console", lambda message: self.complaints.append(message.text))
            page.on("pageerror", lambda error: self.complaints.append(str(error)))
            page.goto(url)
            yield page
        finally:
            context.close()


@contextmanager
def pages() -> Iterator[Pages]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=list(OPTIONS))
        try:
            yield Pages(started)
        finally:
            started.close()


def violations(page: Page) -> list[str]:
    """What axe-core has to say against a page: the rule, and where."""
    assert AXE.exists(), "axe-core is missing: sh etc/bootstrap.sh test"
    page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = page.evaluate("axe.run()")["violations"]
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found]
