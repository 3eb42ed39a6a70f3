"""One web application, for WSGI and for ASGI servers: what the tests of real servers ask for.

    GET  /hello             a short body with a length and an ETag
    GET  /stream            a body without a length, piece by piece
    GET  /steps?gate=FILE   "first", then "second" once FILE is there
    GET  /big?size=N        N bytes; with &stream=1 without saying so
    GET  /nothing           204
    GET  /fields            the fields of the request, as JSON
    any  /echo              the request's body
    any  /digest            its size and SHA-256
    any  /refuse            403, the body left unread

Over WebSocket: see tests/support/websocket_origin.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

GATE_TIMEOUT = 20.0  # seconds
BLOCK = 64 * 1024  # bytes

Fields = list[tuple[str, str]]


@dataclass
class Request:
    method: str
    path: str
    query: str
    fields: Fields
    body: Iterator[bytes]  # read as the application asks for it

    def get(self, name: str, default: str = "") -> str:
        """A parameter of the query."""
        return parse_qs(self.query).get(name, [default])[0]

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name), None)


@dataclass
class Response:
    """`length`: -1 where the server is not told."""

    body: Iterable[bytes] = ()
    length: int = -1
    status: int = 200
    reason: str = "OK"
    fields: Fields = field(default_factory=list)


def answer(request: Request) -> Response:
    response = ROUTES.get(request.path, not_found)(request)
    if response.length >= 0:
        response.fields.append(("Content-Length", str(response.length)))
    if request.method == "HEAD":
        response.body = ()
    return response


def text(said: str, **more: Any) -> Response:
    body = said.encode()
    response = Response([body], len(body), **more)
    response.fields.append(("Content-Type", "text/plain; charset=utf-8"))
    return response


def hello(request: Request) -> Response:
    if request.field("if-none-match") == '"hello"':
        return Response(status=304, reason="Not Modified", fields=[("ETag", '"hello"')])
    return text("hello\n", fields=[("ETag", '"hello"'), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])


def stream(_request: Request) -> Response:
    return Response(b"piece %d\n" % number for number in range(100))


def steps(request: Request) -> Response:
    def pieces() -> Iterator[bytes]:
        yield b"first\n"
        gate = Path(request.get("gate"))
        deadline = time.monotonic() + GATE_TIMEOUT
        while not gate.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield b"second\n"

    return Response(pieces())


def big(request: Request) -> Response:
    size = int(request.get("size"))
    return Response(blocks(size), -1 if request.get("stream") else size)


def blocks(size: int) -> Iterator[bytes]:
    """`size` bytes, no two blocks of them the same."""
    filling = bytes(range(256)) * (BLOCK // 256)
    for number in range(0, size, BLOCK):
        yield (b"%08x" % number + filling[8:])[: size - number]


def digest_of(pieces: Iterable[bytes]) -> str:
    """What /digest says of them."""
    digest = hashlib.sha256()
    size = 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return f"{size} {digest.hexdigest()}"


def nothing(_request: Request) -> Response:
    return Response(status=204, reason="No Content")


def fields(request: Request) -> Response:
    return text(json.dumps(request.fields))


def echo(request: Request) -> Response:
    body = b"".join(request.body)
    return Response([body], len(body), fields=[("Content-Type", request.field("content-type") or "text/plain")])


def digest(request: Request) -> Response:
    return text(digest_of(request.body))


def refuse(_request: Request) -> Response:
    return text("not for you\n", status=403, reason="Forbidden")


def not_found(request: Request) -> Response:
    return text(f"there is no {request.path}\n", status=404, reason="Not Found")


ROUTES: dict[str, Callable[[Request], Response]] = {
    f"/{f.__name__}": f for f in (hello, stream, steps, big, nothing, fields, echo, digest, refuse)
}


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    named = [(key[5:].replace("_", "-").title(), value) for key, value in environ.items() if key.startswith("HTTP_")]
    if environ.get("CONTENT_TYPE"):
        named.append(("Content-Type", environ["CONTENT_TYPE"]))
    body = iter(lambda: environ["wsgi.input"].read(BLOCK), b"")
    request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), named, body)
    response = answer(request)
    start_response(f"{response.status} {response.reason}", response.fields)
    return response.body


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await _asgi_websocket(receive, send)
    if scope["type"] != "http":
        return
    loop = asyncio.get_running_loop()

    def body() -> Iterator[bytes]:
        more = True
        while more:
            message = asyncio.run_coroutine_threadsafe(receive(), loop).result()
            yield message.get("body", b"")
            more = message.get("more_body", False)

    named = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
    request = Request(scope["method"], scope["path"], scope["query_string"].decode(), named, body())
    response = await asyncio.to_thread(answer, request)
    lines = [(name.encode(), value.encode()) for name, value in response.fields]
    await send({"type": "http.response.start", "status": response.status, "headers": lines})
    pieces = iter(response.body)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def _asgi_websocket(receive: Any, send: Any) -> None:
    """Echoes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        said = {"text": message["text"]} if message.get("text") is not None else {"bytes": message["bytes"]}
        await send({"type": "websocket.send", **said})
