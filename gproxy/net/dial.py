"""Dialling: a connected, non-blocking socket within a time, or a DialError that says why not.

No name is looked up here: an endpoint is resolved already (net/resolve.py).
"""

from __future__ import annotations

import errno
import os
from _socket import AF_INET, AF_INET6
from _socket import socket as Socket
from collections.abc import Callable
from pathlib import Path

from gevent import get_hub, sleep
from gevent.hub import Waiter

from gproxy.errors import DialError, DialFailure
from gproxy.net.connection import RESOURCE_ERRNOS, Endpoint, new_socket

Dial = Callable[[Endpoint, float], Socket]

_WRITE = 2
_UNIX_RETRY = 0.01  # seconds between tries while a unix backlog is full: it can't be polled for


def dial(endpoint: Endpoint, timeout: float) -> Socket:
    """Connect to `endpoint` within `timeout` seconds; the caller's greenlet waits.

    A connect on loopback is done by the time it returns, but always says EINPROGRESS:
    asking once more finds that out for a system call, where waiting costs two switches
    of greenlets and an epoll registration.
    """
    try:
        sock = new_socket(endpoint.family)
    except OSError as error:
        raise _dial_error(endpoint, error.errno or errno.EIO) from error
    try:
        code = sock.connect_ex(endpoint.sockaddr)
        if code == errno.EINPROGRESS:
            code = sock.connect_ex(endpoint.sockaddr)
        if code == errno.EALREADY:
            code = _wait(sock, endpoint, timeout)
        elif code == errno.EAGAIN and endpoint.is_unix:
            code = _retry(sock, endpoint, timeout)
        if code in (0, errno.EISCONN) and _is_itself(sock, endpoint):
            code = errno.ECONNREFUSED
        if code not in (0, errno.EISCONN):
            raise _dial_error(endpoint, code)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):  # an address that connect() can't even read, such as an unknown IPv6 zone
            raise DialError(DialFailure.UNREACHABLE, f"{endpoint}: {error}") from error
        raise
    return sock


def dial_any(endpoints: tuple[Endpoint, ...], timeout: float, dial_one: Dial = dial) -> Socket:
    """The first of the endpoints that answers; the last one's DialError where none does."""
    for endpoint in endpoints[:-1]:
        try:
            return dial_one(endpoint, timeout)
        except DialError as error:
            if error.failure is DialFailure.RESOURCES:
                raise
    if not endpoints:
        raise DialError(DialFailure.UNRESOLVED, "its host name has no address yet")
    return dial_one(endpoints[-1], timeout)


def _wait(sock: Socket, endpoint: Endpoint, timeout: float) -> int:
    """Wait for the handshake; 0 or an errno."""
    hub = get_hub()
    waiter = Waiter(hub)
    watcher = hub.loop.io(sock.fileno(), _WRITE)
    timer = hub.loop.timer(timeout)
    try:
        watcher.start(waiter.switch, True)
        timer.start(waiter.switch, False)
        if not waiter.get():
            return errno.ETIMEDOUT
    finally:
        watcher.stop()
        watcher.close()
        timer.stop()
        timer.close()
    return sock.connect_ex(endpoint.sockaddr)


def _retry(sock: Socket, endpoint: Endpoint, timeout: float) -> int:
    """A unix socket whose backlog is full; 0 or an errno."""
    for _ in range(max(1, int(timeout / _UNIX_RETRY))):
        sleep(_UNIX_RETRY)
        code = sock.connect_ex(endpoint.sockaddr)
        if code != errno.EAGAIN:
            return code
    return errno.ETIMEDOUT


def _is_itself(sock: Socket, endpoint: Endpoint) -> bool:
    """Whether the kernel joined the socket to itself, as it may for a local port nobody listens on.

    TCP's simultaneous open: the ephemeral source port happened to be the port dialled.
    """
    if endpoint.family not in (AF_INET, AF_INET6) or endpoint.sockaddr[1] < _FIRST_EPHEMERAL:
        return False
    return bool(sock.getsockname()[:2] == endpoint.sockaddr[:2])


def _first_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 1024


_FIRST_EPHEMERAL = _first_ephemeral()  # read once: an administrator may narrow the range, but hardly lowers it


def _dial_error(endpoint: Endpoint, code: int) -> DialError:
    return DialError(_failure(code), f"{endpoint}: {os.strerror(code)}")


def _failure(code: int) -> DialFailure:
    if code == errno.ETIMEDOUT:
        return DialFailure.TIMEOUT
    if code in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOENT):
        return DialFailure.REFUSED
    if code in RESOURCE_ERRNOS:
        return DialFailure.RESOURCES
    if code == errno.EADDRNOTAVAIL:
        return DialFailure.NO_ADDRESS
    return DialFailure.UNREACHABLE
