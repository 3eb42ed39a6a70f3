"""What one writes with asyncio's streams in ten minutes: two tasks for each client, read, write and drain.

    python forward_asyncio.py CONFIG

The configuration: see forwarding.py. A contestant of compare.py; nothing else should use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys

from forwarding import BACKLOG, PIECE_BYTES, addresses


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def main(path: str) -> None:
    (host, port), backends = addresses(path)
    turns = itertools.cycle(backends)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            backend_reader, backend_writer = await asyncio.open_connection(*next(turns))
            with contextlib.closing(backend_writer):
                await asyncio.gather(pump(reader, backend_writer), pump(backend_reader, writer))

    server = await asyncio.start_server(handle, host, port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
