"""Connections whose far ends a test plays itself, in its own gevent hub: real sockets, no processes.

client, ours = pair()        the peer in the test's hand, and the bare socket that gproxy gets
backend = PlayedBackend()    listens; `accept()` is the next connection's peer
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from _socket import socket as Socket
from enum import Enum
from pathlib import Path
from typing import Any

from gevent.socket import socket as GeventSocket

from gproxy.net.connection import Endpoint, new_socket, unacknowledged
from tests.support.poll import eventually

TIMEOUT = 10.0  # seconds; a test fails after them, it never waits for them

_LINGER_NOT = struct.pack("ii", 1, 0)


class End(Enum):
    """How a stream ended, as its reader saw it."""

    FIN = "FIN"
    RESET = "RST"


class Peer:
    """The far end of a connection. Its waits let the hub run, and fail after TIMEOUT."""

    def __init__(self, sock: Any):
        self.sock = sock
        sock.settimeout(TIMEOUT)

    def send(self, data: bytes) -> None:
        """All of it; waits while the other end takes none."""
        self.sock.sendall(data)

    def receive(self, size: int) -> bytes:
        """Exactly so many bytes; fewer only before a FIN."""
        data = bytearray()
        while len(data) < size and (more := self.sock.recv(size - len(data))):
            data += more
        return bytes(data)

    def rest(self) -> tuple[bytes, End]:
        """All that still comes, and how it ends."""
        data = bytearray()
        try:
            while more := self.sock.recv(1 << 20):
                data += more
        except ConnectionResetError:
            return bytes(data), End.RESET
        return bytes(data), End.FIN

    def finish(self) -> None:
        """Send FIN and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def wait_acknowledged(self) -> None:
        """Until the kernel at the other end has every byte: a RST may not take it back any more."""
        eventually(lambda: not unacknowledged(self.sock), TIMEOUT, "every byte is acknowledged")

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def pair(*, unix: bool = False, peer_buffer: int = 0, our_buffer: int = 0) -> tuple[Peer, Socket]:
    """A connection: the peer's end, and gproxy's. Buffers in bytes, 0 for the kernel's choice."""
    if unix:
        theirs, ours = socket.socketpair()
        _limit(theirs, peer_buffer)
        _limit(ours, our_buffer)
        ours.setblocking(False)
        return wrap(theirs), _bare(ours)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _limit(listener, peer_buffer)
        end = new_socket(socket.AF_INET)
        _limit(end, our_buffer)
        end.connect_ex(listener.getsockname())
        theirs, _ = listener.accept()
    return wrap(theirs), end


def mark_of(sock: Any) -> int:
    """The bytes below which a reader is not woken: SO_RCVLOWAT."""
    mark = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
    assert isinstance(mark, int)
    return mark


def _limit(sock: Any, size: int) -> None:
    if size:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def wrap(sock: socket.socket) -> Peer:
    """A connected blocking socket as a peer."""
    return Peer(GeventSocket(sock.family, sock.type, sock.proto, fileno=sock.detach()))


def _bare(sock: socket.socket) -> Socket:
    return Socket(sock.family, sock.type, sock.proto, fileno=sock.detach())


class PlayedBackend:
    """A listening backend; the test is its application. On a unix socket if it gets a path."""

    def __init__(self, path: Path | None = None, *, backlog: int = 128, port: int = 0):
        self._path = path
        self._listener = GeventSocket(socket.AF_UNIX if path else socket.AF_INET)
        if path is None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(str(path) if path else ("127.0.0.1", port))
        self._listener.listen(backlog)
        self._peers: list[Peer] = []

    @property
    def address(self) -> str:
        """As a configuration names it."""
        return f"unix:{self._path}" if self._path else f"127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self._listener.family, self._listener.getsockname())

    def accept(self) -> Peer:
        """The next connection."""
        self._listener.settimeout(TIMEOUT)
        peer = Peer(self._listener.accept()[0])
        self._peers.append(peer)
        return peer

    def waiting(self) -> bool:
        """Whether somebody has connected and was not accepted yet."""
        self._listener.settimeout(0.0)
        with contextlib.suppress(BlockingIOError):
            self._peers.append(Peer(self._listener.accept()[0]))
            return True
        return False

    def stop(self) -> None:
        """Listen no more; connections stay."""
        self._listener.close()

    def close(self) -> None:
        self.stop()
        for peer in self._peers:
            peer.close()

    def __enter__(self) -> PlayedBackend:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def descriptors() -> set[str]:
    """The sockets and pipes that this process has open. (The hub's own epoll and eventfd come when it needs them.)"""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            target = os.readlink(f"/proc/self/fd/{number}")
            if target.startswith(("socket:", "pipe:")):
                found.add(f"{number} {target}")
    return found
