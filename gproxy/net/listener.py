"""ProxyServer: accepts clients and spawns a greenlet for each.

Accepting pauses, and clients wait in the kernel's backlog, while there are as many sessions as
allowed (or they are turned away at once), and for a growing moment when the process has run out
of descriptors.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from _socket import (
    AF_UNIX,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)
from _socket import socket as Socket
from collections.abc import Callable, Sequence
from typing import Any

from gevent import get_hub
from gevent.server import StreamServer

from gproxy.errors import BindError
from gproxy.net.connection import RESOURCE_ERRNOS, Endpoint, format_sockaddr, set_stream_options
from gproxy.net.greenlets import Greenlets
from gproxy.net.limit import Limit
from gproxy.net.refusals import Refusals

log = logging.getLogger("gproxy.listener")

_MIN_PAUSE, _MAX_PAUSE = 0.05, 1.0  # seconds without accepting when descriptors have run out
_CALM = 2.0  # seconds without a shortage after which it is over
_LOOK_AGAIN = 0.05  # seconds between looks at a limit where nobody tells of room
_REFUSED_AT_ONCE = 16  # clients turned away before others may run: about half a millisecond
_SAY_FULL_AGAIN = 60.0  # seconds between two log lines that a listener is full

Serve = Callable[[Socket, Any], None]


def listen(endpoint: Endpoint, backlog: int) -> Socket:
    """A listening, non-blocking socket; BindError says why there is none."""
    sock = bind(endpoint)
    try:
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise bind_error(endpoint, error) from error
    return sock


def bind(endpoint: Endpoint, *, shared: bool = False) -> Socket:
    """A bound, non-blocking socket; BindError says why there is none. `shared` lets more be bound to its address.

    Accepted sockets inherit its options, which spares each session the system calls.
    """
    try:
        sock = Socket(endpoint.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    except OSError as error:
        raise bind_error(endpoint, error) from error
    try:
        if endpoint.is_unix:
            _remove_stale(endpoint.sockaddr)
        else:
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            set_stream_options(sock)
        sock.bind(endpoint.sockaddr)
    except OSError as error:
        sock.close()
        raise bind_error(endpoint, error) from error
    return sock


def bind_only(endpoint: Endpoint) -> None:
    """See whether an address can be had; BindError says why not."""
    try:
        with contextlib.closing(Socket(endpoint.family, SOCK_STREAM | SOCK_CLOEXEC, 0)) as sock:
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.bind(endpoint.sockaddr)
    except OSError as error:
        raise bind_error(endpoint, error) from error


def bind_error(endpoint: Endpoint, error: OSError) -> BindError:
    """What an operator reads."""
    return BindError(f"cannot listen on {endpoint}: {(error.strerror or str(error)).lower()}")


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any more, and nothing else."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    probe = Socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    try:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)
    finally:
        probe.close()


class ProxyServer(StreamServer):  # type: ignore[misc]  # gevent has no types
    """One listener. `serve(socket, peer)` runs in a greenlet of its own and then owns the socket."""

    min_delay = _MIN_PAUSE

    def __init__(self, sock: Socket, serve: Serve, limits: Sequence[Limit], refusals: Refusals | None = None):
        """The first of `limits` is its own, the others it shares with other servers. Who comes when one of them is
        reached is for `refusals`; without those, it waits in the backlog.
        """
        super().__init__(sock, handle=serve)
        self.address = sock.getsockname()
        self.limit = limits[0]
        self._limits = tuple(limits)
        self._refusals = refusals
        self._refusing = False  # whoever is accepted now is turned away
        self._refused = 0
        self._look_timer: Any = None
        self._say_full_at = 0.0  # on the loop's clock
        self.greenlets = Greenlets(get_hub())
        self._pause = _MIN_PAUSE
        self._starved = False
        self._calm_at = 0.0  # on the loop's clock: with no shortage until then, it is over
        self._resume_timer: Any = None
        self._more: Sequence[Socket] = ()
        self._more_watchers: list[Any] = []
        self._borrowed = False

    def borrow(self, more: Sequence[Socket]) -> None:
        """The sockets are another process's, who removes their paths; clients of `more` are accepted as well."""
        self._borrowed = True
        self._more = more

    @property
    def url(self) -> str:
        """Where it really listens, with the port that the kernel chose for port 0."""
        return format_sockaddr(self.address)

    def set_listener(self, listener: Socket) -> None:
        """Take a bare socket; gevent's own would have it wrapped."""
        self.family = listener.family
        self.socket = listener

    @property
    def active(self) -> int:
        """Its open sessions in this process."""
        return self.limit.active

    def full(self) -> bool:
        """Whether clients must wait; asked before each accept."""
        limit: Limit
        for limit in self._limits:
            # As nearly_reached(), whose call would cost as much as the rest of this.
            if limit.active >= limit.near or (limit.elsewhere is not None and limit.nearly_reached()):
                return self._tight()
        self._refusing = False
        return False

    def relieve(self) -> None:
        """Near a limit, ask idle clients to go."""
        for limit in self._limits:
            limit.relieve()

    def _tight(self) -> bool:
        """At a limit or near it: idle clients are asked to go; whether clients must wait all the same."""
        self.relieve()
        out_of_room = any(limit.out_of_room() for limit in self._limits)
        over = out_of_room or any(limit.reached() for limit in self._limits)
        # To turn a client away takes a descriptor, too: where those are short, clients wait.
        self._refusing = over and not out_of_room and self._refusals is not None
        if over:
            self._say_full()
        if not over or self._refusing:
            return False
        self._look_again_later()
        return True

    def _say_full(self) -> None:
        now = self.loop.now()
        if now >= self._say_full_at:
            self._say_full_at = now + _SAY_FULL_AGAIN
            then = "turned away" if self._refusing else "left waiting"
            which = [limit.told() for limit in self._limits if limit.reached() or limit.out_of_room()]
            log.warning("listener %s: full, clients are %s: %s", self.url, then, " and ".join(which))

    def _look_again_later(self) -> None:
        """A session that ends here wakes us. Where there may be room without one, look at times."""
        if self._look_timer is None and any(limit.changes_unseen() for limit in self._limits):
            self._look_timer = self.loop.timer(_LOOK_AGAIN)
            self._look_timer.start(self._look_again)

    def _look_again(self) -> None:
        self._drop_look_timer()
        self.wake()

    def start_accepting(self) -> None:
        super().start_accepting()
        if not self._more_watchers:
            self._more_watchers = [self.loop.io(sock.fileno(), 1) for sock in self._more]
            for watcher, sock in zip(self._more_watchers, self._more, strict=True):
                watcher.start(self._read_more, sock)

    def stop_accepting(self) -> None:
        super().stop_accepting()
        for watcher in self._more_watchers:
            watcher.stop()
            watcher.close()
        self._more_watchers.clear()

    def _read_more(self, sock: Socket) -> None:
        own, self.socket = self.socket, sock
        try:
            self._do_read()
        finally:
            self.socket = own

    def do_read(self) -> tuple[Socket, Any] | None:
        """Accept one client as a bare non-blocking socket; None when there is none now, or others are to run first."""
        if self._refusing:
            self._refused += 1
            if self._refused % _REFUSED_AT_ONCE == 0:
                return None
        listener = self.socket
        try:
            fd, peer = listener._accept()  # type: ignore[attr-defined]  # what accept() of the wrapper calls
        except BlockingIOError:
            return None
        except OSError as error:
            self._accept_failed(error)
            return None
        if self._starved and self.loop.now() >= self._calm_at:
            self._recovered()
        client = Socket(listener.family, SOCK_STREAM, listener.proto, fd)
        client.setblocking(False)
        return client, peer

    def do_handle(self, *args: Any) -> None:
        """Give the client a greenlet: one that rests after an earlier client, or a new one."""
        if self._refusing:
            assert self._refusals is not None
            self._refusals.refuse(*args)
            return
        limit: Limit
        for limit in self._limits:  # as enter(), whose call would cost more than it does
            limit.view[limit.slot] = limit.active = limit.active + 1
        self.greenlets.later(self._handle, *args)

    def session_over(self) -> None:
        """A session of this listener has ended: there is room for another."""
        limit: Limit
        for limit in self._limits:  # as leave()
            limit.view[limit.slot] = limit.active = limit.active - 1
        self.wake()

    def wake(self) -> None:
        """There may be room again, because a session has ended here or elsewhere in the process."""
        if self._watcher is None and self._resume_timer is None and self.started:
            self.start_accepting()

    def pause(self, why: OSError | str) -> None:
        """Stop accepting for a moment that grows while the shortage lasts; one log line for all of it."""
        if not self._starved:
            self._starved = True
            log.warning("listener %s: accepting pauses: %s", self.url, why)
        self._calm_at = self.loop.now() + _CALM
        if self._resume_timer is not None or not self.started:
            return
        self.stop_accepting()
        self._resume_timer = self.loop.timer(self._pause)
        self._resume_timer.start(self._resume)
        self._pause = min(self._pause * 2, _MAX_PAUSE)

    def close(self) -> None:
        self._drop_timer()
        self._drop_look_timer()
        if self._refusals is not None:
            self._refusals.close()
        self.greenlets.close()
        path = self.address if isinstance(self.address, str) and hasattr(self, "socket") else ""
        super().close()
        for sock in self._more:
            sock.close()
        if path and not self._borrowed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _accept_failed(self, error: OSError) -> None:
        if error.errno in RESOURCE_ERRNOS:
            self.pause(error)
        # Anything else concerns the one client that has gone again: ECONNABORTED and accept(2)'s network errors.

    def _resume(self) -> None:
        self._drop_timer()
        if self.started and not self.full():
            self.start_accepting()

    def _recovered(self) -> None:
        self._starved = False
        self._pause = _MIN_PAUSE
        log.warning("listener %s: accepting goes on", self.url)

    def _drop_timer(self) -> None:
        if self._resume_timer is not None:
            self._resume_timer.stop()
            self._resume_timer.close()
            self._resume_timer = None

    def _drop_look_timer(self) -> None:
        if self._look_timer is not None:
            self._look_timer.stop()
            self._look_timer.close()
            self._look_timer = None
