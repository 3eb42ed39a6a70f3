"""What the visitors of the site have in common: each response is checked to its last byte."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from locust import FastHttpUser

PAGES = 200


class Visitor(FastHttpUser):
    """Its connections are kept from one request to the next."""

    abstract = True
    connection_timeout = network_timeout = 30.0  # seconds
    backend = ""  # that answered last

    def page(self) -> None:
        """Any page."""
        self.fetch(f"/page/{random.randrange(PAGES)}", "page")

    def fetch(self, path: str, name: str, **options: Any) -> None:
        """GET; a failure unless the body has the digest that its head promises."""
        with self.client.get(path, name=name, catch_response=True, **options) as response:
            self.backend = self.answered_by(response)
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif hashlib.sha256(response.content or b"").hexdigest() != response.headers.get("X-Digest"):
                response.failure("wrong bytes")

    def send(self, body: bytes, name: str) -> None:
        """POST; a failure unless exactly these bytes arrived."""
        wanted = {"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()}
        post: Any = self.client.post  # its type has no bytes, but they are sent as they are
        with post("/upload", data=body, name=name, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif response.json() != wanted:
                response.failure("other bytes arrived")

    def answered_by(self, response: Any) -> str:
        return str((response.headers or {}).get("X-Backend", ""))
