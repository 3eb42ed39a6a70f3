"""What one writes with gevent in ten minutes: two greenlets for each client, recv and sendall.

    python forward_gevent.py CONFIG

The configuration: see forwarding.py. A contestant of compare.py; nothing else should use it.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys

import gevent
from forwarding import BACKLOG, PIECE_BYTES, addresses
from gevent.server import StreamServer
from gevent.socket import create_connection


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main(path: str) -> None:
    listen, backends = addresses(path)
    turns = itertools.cycle(backends)

    def handle(client: socket.socket, _address: object) -> None:
        with contextlib.suppress(OSError), contextlib.closing(create_connection(next(turns))) as backend:
            for end in (client, backend):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            upwards = gevent.spawn(pump, client, backend)
            pump(backend, client)
            upwards.join()

    StreamServer(listen, handle, backlog=BACKLOG).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
