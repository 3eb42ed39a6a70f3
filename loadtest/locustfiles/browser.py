"""As browsers do: a page and what it embeds over six connections, cookies, pauses to read, large downloads and uploads.

The site keeps a browser on its backend by a cookie: to meet another one is a failure.
"""

from __future__ import annotations

import random
from typing import Any

from gevent.pool import Pool
from locust import between, task
from objectives import Objectives, hold
from visitor import Visitor

CONNECTIONS = 6  # of a browser to one site
EMBEDDED = 12
DOWNLOAD_BYTES = 16 << 20
UPLOAD_BYTES = 8 << 20
LINES = random.Random(2).randbytes(UPLOAD_BYTES)

hold(Objectives(errors=0.0, p50=500, p95=2000, p99=5000, timed=("page", "embedded")))


class Browser(Visitor):
    wait_time = between(0.5, 2)
    concurrency = CONNECTIONS
    default_headers = {  # noqa: RUF012
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
        "Sec-Fetch-Mode": "navigate",
    }

    def on_start(self) -> None:
        self.page()  # brings the cookie

    @task(20)
    def visit(self) -> None:
        self.page()
        pool = Pool(CONNECTIONS)
        for number in range(EMBEDDED):
            pool.spawn(self.fetch, f"/page/{number}", "embedded")
        pool.join()

    @task(2)
    def download(self) -> None:
        self.fetch(f"/download/{DOWNLOAD_BYTES}", "download, 16 MiB")

    @task(2)
    def upload(self) -> None:
        self.send(LINES, "upload, 8 MiB")

    def answered_by(self, response: Any) -> str:
        backend = super().answered_by(response)
        if self.backend and backend != self.backend:
            response.failure(f"not the backend of its cookie: {backend or 'none'}")
        return backend or self.backend
