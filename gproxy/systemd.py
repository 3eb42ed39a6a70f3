"""What systemd and its like tell us by the environment, and what they want to be told.

    NOTIFY_SOCKET                            notify(): ready, reloading, alive
    WATCHDOG_USEC, WATCHDOG_PID              watchdog_interval()
    LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES   inherited_sockets()

The protocols are those of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3).
Without these variables nothing here has an effect.
"""

from __future__ import annotations

import os
import time
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    SO_ACCEPTCONN,
    SO_TYPE,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)
from _socket import socket as Socket
from dataclasses import dataclass

from gproxy.errors import InheritedSocketError

_FIRST_DESCRIPTOR = 3  # behind standard input, output and error
_LISTEN = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def notify(**fields: str | int) -> bool:
    """Tell the service manager: READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1, STATUS="...", MAINPID=7.

    Never raises and never waits. False where the message was lost, so that one that matters
    can be said again; True where it was sent, or nobody wants to know.
    """
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return True
    if "RELOADING" in fields:
        fields["MONOTONIC_USEC"] = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    try:
        sock = Socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        try:
            sock.sendto(_message(fields), _sockaddr(place))
        finally:
            sock.close()
    except OSError:
        return False
    return True


def _message(fields: dict[str, str | int]) -> bytes:
    """A line each; a value's own line ends would begin a field of its making."""
    lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
    return "\n".join(lines).encode(errors="replace")


def _sockaddr(place: str) -> bytes:
    """An abstract address is written with @ for its first byte."""
    raw = os.fsencode(place)
    return b"\0" + raw[1:] if place.startswith("@") else raw


def watchdog_interval() -> float | None:
    """Seconds between two WATCHDOG=1: half of what the manager allows. None where it doesn't watch us."""
    allowed = _number("WATCHDOG_USEC")
    watched = _number("WATCHDOG_PID") if "WATCHDOG_PID" in os.environ else os.getpid()
    return allowed / 2_000_000 if allowed and watched == os.getpid() else None


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that was made before us, and what its unit calls it."""

    socket: Socket
    name: str  # "" where it has none


def inherited_sockets() -> list[Inherited]:
    """The listening sockets handed to this process, in their order, each non-blocking and close-on-exec.

    They are ours from here on, and the variables go, so that no child takes them for its own.
    InheritedSocketError for a descriptor that is not a listening stream socket.
    """
    count, meant = _number("LISTEN_FDS"), _number("LISTEN_PID")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    for variable in _LISTEN:
        os.environ.pop(variable, None)
    if not count or meant != os.getpid():
        return []
    return [_inherited(_FIRST_DESCRIPTOR + i, names[i] if i < len(names) else "") for i in range(count)]


def _inherited(descriptor: int, name: str) -> Inherited:
    shown = f"descriptor {descriptor}" + (f" ({name})" if name else "")
    try:
        os.set_inheritable(descriptor, False)
        sock = Socket(fileno=descriptor)
    except OSError as error:
        raise InheritedSocketError(f"LISTEN_FDS: {shown} is no socket: {error.strerror}") from error
    reason = _unfit(sock)
    if reason:
        sock.detach()  # it isn't ours to close
        raise InheritedSocketError(f"LISTEN_FDS: {shown} {reason}")
    sock.setblocking(False)
    return Inherited(sock, name)


def _unfit(sock: Socket) -> str:
    """Why we can't accept from it; empty where we can."""
    if sock.family not in (AF_INET, AF_INET6, AF_UNIX):
        return "is of an address family that is not supported"
    if sock.getsockopt(SOL_SOCKET, SO_TYPE) != SOCK_STREAM:
        return "is not a stream socket: use ListenStream= in the socket unit"
    if not sock.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
        return "does not listen: use Accept=no in the socket unit"
    return ""


def _number(variable: str) -> int | None:
    """None for one that isn't set, or isn't a number."""
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None
