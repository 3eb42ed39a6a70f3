"""A browser for tests: Debian's Chromium without a window, and without whatever it asks the world for."""

from __future__ import annotations

import os
import subprocess
import tempfile

from tests.support.servers import program

LIMIT = 60  # seconds


def browser(url: str) -> str:
    """The document at `url` after its scripts have run."""
    with tempfile.TemporaryDirectory() as home:
        command = [
            program("chromium", "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--no-proxy-server", f"--user-data-dir={home}", "--virtual-time-budget=20000",
            "--dump-dom", url,
        ]  # fmt: skip
        environ = os.environ | {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
