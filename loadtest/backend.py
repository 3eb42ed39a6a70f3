"""A backend of the Locust scenarios: a small site, chat rooms, and an echo on a second port.

    python backend.py NAME HTTP_PORT TCP_PORT

    GET  /page/N          a page of some KB
    GET  /download/BYTES  that many bytes
    POST /upload          JSON: how many bytes came, and their digest
    GET  /chat/ROOM       a WebSocket: who says something is heard by all in the room, with a number that counts up

Every response names the backend (X-Backend), and those with a body its SHA-256 (X-Digest). Over tcp all bytes
come back, and a FIN after a FIN.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random
import sys

from aiohttp import WSMsgType, web

HOST = "127.0.0.1"
BACKLOG = 4096
PIECE_BYTES = 64 << 10
ECHO_BYTES = 64 << 10
LONGEST_DOWNLOAD = 1 << 30
PAGE_BYTES = (2 << 10, 30 << 10)
BLOCK = random.Random(1).randbytes(PIECE_BYTES)  # every backend has the same


def pieces(length: int) -> list[bytes]:
    """The body of that many bytes, the same for everyone."""
    whole, rest = divmod(length, PIECE_BYTES)
    return [BLOCK] * whole + [BLOCK[:rest]]


@functools.lru_cache(maxsize=1000)
def digest(length: int) -> str:
    hashed = hashlib.sha256()
    for piece in pieces(length):
        hashed.update(piece)
    return hashed.hexdigest()


class Site:
    """The http side; rooms are this process's alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rooms: dict[str, Room] = {}

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get(r"/page/{number:\d+}", self.page),
                web.get(r"/download/{length:\d+}", self.download),
                web.post("/upload", self.upload),
                web.get("/chat/{room}", self.chat),
            ]
        )
        return application

    async def page(self, request: web.Request) -> web.Response:
        length = random.Random(int(request.match_info["number"])).randint(*PAGE_BYTES)
        fields = {"X-Backend": self.name, "X-Digest": digest(length)}
        return web.Response(body=BLOCK[:length], headers=fields, content_type="text/html")

    async def download(self, request: web.Request) -> web.StreamResponse:
        length = int(request.match_info["length"])
        if length > LONGEST_DOWNLOAD:
            raise web.HTTPBadRequest(text=f"at most {LONGEST_DOWNLOAD} bytes\n")
        response = web.StreamResponse(headers={"X-Backend": self.name, "X-Digest": digest(length)})
        response.content_length = length
        await response.prepare(request)
        for piece in pieces(length):
            await response.write(piece)
        return response

    async def upload(self, request: web.Request) -> web.Response:
        hashed, length = hashlib.sha256(), 0
        async for piece in request.content.iter_chunked(PIECE_BYTES):
            hashed.update(piece)
            length += len(piece)
        return web.json_response({"bytes": length, "digest": hashed.hexdigest()}, headers={"X-Backend": self.name})

    async def chat(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        socket.headers["X-Backend"] = self.name
        await socket.prepare(request)
        room = self.rooms.setdefault(request.match_info["room"], Room())
        room.members.add(socket)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await room.say(message.data)
        finally:
            room.members.discard(socket)
        return socket


class Room:
    """Who listens, and how much was said."""

    def __init__(self) -> None:
        self.members: set[web.WebSocketResponse] = set()
        self._said = 0
        self._turn = asyncio.Lock()  # all hear all of it in one order

    async def say(self, text: str) -> None:
        async with self._turn:
            self._said += 1
            line = f"{self._said} {text}"
            await asyncio.gather(*(self._tell(member, line) for member in self.members))

    async def _tell(self, member: web.WebSocketResponse, line: str) -> None:
        try:
            await member.send_str(line)
        except ConnectionError:  # it leaves; its own handler notices
            self.members.discard(member)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(ECHO_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass  # the client's reset ends the session, as its FIN does
    finally:
        writer.close()


async def main(name: str, http_port: int, tcp_port: int) -> None:
    runner = web.AppRunner(Site(name).application(), access_log=None)
    await runner.setup()
    server = await asyncio.start_server(echo, HOST, tcp_port, backlog=BACKLOG)
    # http comes last: who waits for it finds tcp too.
    await web.TCPSite(runner, HOST, http_port, backlog=BACKLOG).start()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
