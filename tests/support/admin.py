"""A client of the admin API."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from typing import Any, NamedTuple

from tests.support.proxy import Gproxy

TIMEOUT = 20.0  # seconds


class Reply(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Admin:
    """Of a gproxy whose log tells where its API is."""

    def __init__(self, proxy: Gproxy, token: str | None = None):
        self._proxy = proxy
        self._token = token

    @property
    def address(self) -> tuple[str, int]:
        found = re.findall(r"the admin API is at (\S+):(\d+)", self._proxy.log())
        host, port = found[-1]
        return host.strip("[]"), int(port)

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> Reply:
        """`body` is JSON, or bytes as they are; `fields` have _ for -, and None takes one of ours away."""
        sent = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in fields.items()}
        connection = HTTPConnection(*self.address, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The document of a read that is granted."""
        reply = self.ask("GET", path)
        assert reply.status == 200, reply
        return reply.json

    def change(self, method: str, path: str, body: Any) -> Any:
        """The document of a write that is granted."""
        reply = self.ask(method, path, body)
        assert reply.status in (200, 202), reply
        return reply.json

    def backend(self, name: str, upstream: str = "app") -> Any:
        return self.get(f"/v1/upstreams/{upstream}/backends/{name}")
