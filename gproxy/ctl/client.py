"""Client: requests to a gproxy's admin API.

    Client(parse_address("127.0.0.1:9901")).get("/v1/decisions", last=20)   ->  the document

Unreachable where nobody answers, Refused where the answer is no; both are an AdminError, and a line for people.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import quote, urlencode

from gproxy.core.address import Address
from gproxy.errors import AdminError

TIMEOUT: Final = 15.0  # seconds without a byte; a request has as long on the other side
_LONGEST: Final = 64 * 1024 * 1024  # bytes of an answer: 100,000 backends are less

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Unreachable(AdminError):
    """Nobody answers there, or nobody that is a gproxy. `nobody`: nobody listens."""

    nobody = False


class Refused(AdminError):
    """An answer that is no; `status` is HTTP's, `document` what came with it."""

    def __init__(self, status: int, document: Any, message: str):
        self.status = status
        self.document = document
        super().__init__(message)


class _UnixConnection(HTTPConnection):
    """To a socket in the file system."""

    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """Of the API at one address. Each request has a connection of its own."""

    def __init__(self, address: Address, token: str | None = None, timeout: float = TIMEOUT):
        self.address = address
        self.timeout = timeout  # seconds without a byte
        self._token = token

    def get(self, path: str, **query: str | int) -> Any:
        """A document of the API."""
        return json_of(self.ask("GET", _with(path, query)), self.address)

    def text(self, path: str) -> str:
        """What is no document: /metrics."""
        return self.ask("GET", path).decode()

    def put(self, path: str, body: Any) -> Any:
        return json_of(self.ask("PUT", path, body), self.address)

    def post(self, path: str, body: Any = None) -> Any:
        return json_of(self.ask("POST", path, body or {}), self.address)

    def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """The body of an answer that is yes. Unreachable, Refused."""
        try:
            response, answer = self._exchange(method, path, body)
        except (OSError, HTTPException) as error:
            unreachable = Unreachable(f"no gproxy answers at {self.address}: {_why(error)}")
            unreachable.nobody = isinstance(error, ConnectionRefusedError | FileNotFoundError)
            raise unreachable from None
        if response.status >= 300:
            raise self._refusal(response, answer)
        return answer

    def _exchange(self, method: str, path: str, body: Any) -> tuple[HTTPResponse, bytes]:
        connection = self._connection()
        fields = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            fields["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), fields)
            response = connection.getresponse()
            answer = response.read(_LONGEST + 1)
        finally:
            connection.close()
        if response.length and len(answer) <= _LONGEST:
            raise HTTPException("its answer is broken off")
        if len(answer) > _LONGEST:
            raise HTTPException(f"its answer is longer than {_LONGEST} bytes")
        return response, answer

    def _connection(self) -> HTTPConnection:
        if self.address.is_unix:
            return _UnixConnection(self.address.path, self.timeout)
        host = _ANYWHERE.get(self.address.host, self.address.host)
        return HTTPConnection(host, self.address.port, timeout=self.timeout)

    def _refusal(self, response: HTTPResponse, answer: bytes) -> AdminError:
        document = json_of(answer, self.address)
        message = document.get("error") if isinstance(document, dict) else None
        if response.status == 401:
            message = "the token is wrong" if self._token else "it asks for a token: see --token-file"
        return Refused(response.status, document, str(message or f"{response.status} {response.reason}"))

    def __repr__(self) -> str:
        return f"<Client of {self.address}>"


def json_of(answer: bytes, address: Address) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise Unreachable(f"what answers at {address} is no gproxy's admin API") from None


def backend_path(upstream: str, backend: str) -> str:
    """Where the API has a backend."""
    return f"/v1/upstreams/{quote(upstream, safe='')}/backends/{quote(backend, safe='')}"


def _with(path: str, query: dict[str, str | int]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
