"""Bare non-blocking sockets: what the relay, the pool and the dialler ask of them.

We use the C-level socket class, which every socket class wraps: a session makes two of
them, and the wrappers cost more than the connection.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import struct
import termios
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_TCP,
    SHUT_WR,
    SO_LINGER,
    SO_OOBINLINE,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_CORK,
    TCP_INFO,
    TCP_NODELAY,
)
from _socket import socket as Socket
from dataclasses import dataclass
from typing import Any

import gevent.monkey

# The program that embeds us may be patched, and then select.poll would switch greenlets.
_poll, _POLLIN, _POLLRDHUP = (gevent.monkey.get_original("select", name) for name in ("poll", "POLLIN", "POLLRDHUP"))

_DISCARD, _DISCARDS = 64 * 1024, 16  # bytes at a time, and how many times at the most
_LINGER_NOT = struct.pack("ii", 1, 0)

_TCP_CLOSE = 7  # a state of tcp(7)'s TCP_INFO, whose first byte is the state

# Our own shortage of something, which says nothing of the peer.
RESOURCE_ERRNOS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A resolved address, ready for connect(): ``sockaddr`` as the socket module wants it."""

    family: int
    sockaddr: Any

    @property
    def is_unix(self) -> bool:
        return self.family == AF_UNIX

    def with_port(self, port: int) -> Endpoint:
        """The same host at another port; a unix path has none and stays."""
        if self.is_unix:
            return self
        return Endpoint(self.family, (self.sockaddr[0], port, *self.sockaddr[2:]))

    def __str__(self) -> str:
        return format_sockaddr(self.sockaddr)


def format_sockaddr(sockaddr: Any) -> str:
    """``host:port``, ``[v6]:port`` or ``unix:/path``; a nameless unix peer is ``unix:``."""
    if not isinstance(sockaddr, tuple):
        return f"unix:{sockaddr.decode(errors='replace') if isinstance(sockaddr, bytes) else sockaddr}"
    host, port = sockaddr[0], sockaddr[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def new_socket(family: int) -> Socket:
    """A non-blocking stream socket; OSError where descriptors have run out."""
    sock = Socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if family in (AF_INET, AF_INET6):
        set_stream_options(sock)
    return sock


def set_stream_options(sock: Socket) -> None:
    """No delay for small messages; an urgent byte stays in its place, or it would be lost (RFC 6093).

    Sockets accepted from a listener inherit both.
    """
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)


def reset(sock: Socket) -> None:
    """Close with RST, so that the peer can't take what it has for a complete stream."""
    with contextlib.suppress(OSError):  # the peer reset it first: nothing is left to tell it
        sock.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NOT)
    sock.close()


def finish(sock: Socket) -> None:
    """Close with FIN, also a socket that has been sent something: what nobody has read would make it a reset."""
    with contextlib.suppress(OSError):
        sock.shutdown(SHUT_WR)
        for _ in range(_DISCARDS):
            if not sock.recv(_DISCARD):
                break
    sock.close()


def unacknowledged(sock: Socket) -> int:
    """Bytes sent that the peer's kernel has not confirmed (SIOCOUTQ); 0 for a dead socket.

    Unix sockets hand bytes over at once and keep them through a close: 0 for them too.
    """
    if sock.family == AF_UNIX:
        return 0
    try:
        if sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == _TCP_CLOSE:
            return 0  # reset: the count would stay what it was then
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), "little")
    except OSError:
        return 0


def cork(sock: Socket) -> bool:
    """Hold partial packets back until the FIN; False where that does not exist, as with unix sockets."""
    if sock.family == AF_UNIX:
        return False
    try:
        sock.setsockopt(IPPROTO_TCP, TCP_CORK, 1)
    except OSError:
        return False
    return True


def has_input(sock: Socket) -> bool:
    """Whether a read would not block: bytes, an end or an error are waiting."""
    return _ask(sock, _POLLIN) != 0


def has_fin(sock: Socket) -> bool:
    """Whether the peer has sent FIN, perhaps behind bytes not yet read, and has not reset."""
    return _ask(sock, _POLLRDHUP) == int(_POLLRDHUP)


def is_closed(sock: Socket) -> bool:
    """Whether the peer has ended or reset the connection, perhaps behind bytes not yet read."""
    return _ask(sock, _POLLRDHUP) != 0


def is_reset(sock: Socket) -> bool:
    """Whether the peer has reset the connection; one that has closed it may only have ended its half."""
    return _ask(sock, 0) != 0


def _ask(sock: Socket, events: int) -> int:
    """What poll() says now; errors and hang-ups are reported unasked."""
    found = poller(sock, events).poll(0)
    return found[0][1] if found else 0


def poller(sock: Socket, events: int = _POLLIN) -> Any:
    """A poll object for one socket; its poll(0) is empty while there is nothing to read."""
    made = _poll()
    made.register(sock.fileno(), events)
    return made
