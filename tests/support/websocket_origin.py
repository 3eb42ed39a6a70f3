"""A WebSocket server of the `websockets` package as a process: `python -m tests.support.websocket_origin PORT`.

/echo            echoes each message
/greet           says "hello" before it is asked, then echoes
/close/CODE/WHY  closes at once
/fragments       answers each message by it in pieces of three characters
/ping            pings, and says "ponged" once the pong has come; then echoes
/die             ends the connection without a close frame
anything else    404
"""

from __future__ import annotations

import asyncio
import http
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

PIECE = 3  # characters


async def echo(connection: ServerConnection, *_: str) -> None:
    async for message in connection:
        await connection.send(message)


async def greet(connection: ServerConnection, *_: str) -> None:
    await connection.send("hello")
    await echo(connection)


async def close(connection: ServerConnection, code: str, why: str) -> None:
    await connection.close(int(code), why)


async def fragments(connection: ServerConnection, *_: str) -> None:
    async for message in connection:
        await connection.send([message[at : at + PIECE] for at in range(0, len(message), PIECE)])


async def ping(connection: ServerConnection, *_: str) -> None:
    await (await connection.ping(b"are you there?"))
    await connection.send("ponged")
    await echo(connection)


async def die(connection: ServerConnection, *_: str) -> None:
    connection.transport.abort()


HANDLERS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    f.__name__: f for f in (echo, greet, close, fragments, ping, die)
}


def parts_of(path: str) -> list[str]:
    return path.partition("?")[0].split("/")[1:]


async def handle(connection: ServerConnection) -> None:
    assert connection.request is not None
    name, *arguments = parts_of(connection.request.path)
    await HANDLERS[name](connection, *arguments)


def refuse(connection: ServerConnection, request: Request) -> Response | None:
    if parts_of(request.path)[0] in HANDLERS:
        return None
    return connection.respond(http.HTTPStatus.NOT_FOUND, "there is nothing\n")


async def main(port: int) -> None:
    async with serve(handle, "127.0.0.1", port, process_request=refuse, max_size=None, reuse_address=True) as server:
        print("listening", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
