"""What the sessions of one listener share, whatever its mode."""

from __future__ import annotations

import time
from _socket import socket as Socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from gproxy.core.record import RecordSink
from gproxy.core.settings import Timeouts
from gproxy.core.termination import Ended
from gproxy.metrics import MetricsCollector, Slot
from gproxy.net.listener import ProxyServer
from gproxy.net.refusals import Refusals
from gproxy.router import Router
from gproxy.stories import Stories, Trace
from gproxy.upstream import Backend, Upstream


class Target(NamedTuple):
    """An upstream as a listener uses it: with timeouts that both have a say in."""

    upstream: Upstream
    timeouts: Timeouts
    connect_timeout: float | None  # where the listener has one of its own

    @classmethod
    def of(cls, upstream: Upstream, overrides: tuple[tuple[str, float], ...]) -> Target:
        timeouts = upstream.settings.timeouts.override(overrides)
        return cls(upstream, timeouts, dict(overrides).get("backend_connect_timeout"))


class Session(Protocol):
    """A client connection, as a worker sees it."""

    @property
    def listener(self) -> str:
        """Whose client it is."""

    @property
    def waiting(self) -> bool:
        """Whether it waits for a connection slot or a dial."""

    @property
    def backend(self) -> Backend | None:
        """Who serves it now."""

    def under_way(self) -> Trace | None:
        """What it is at, so far as it has been routed; None where it is at nothing."""

    def sweep(self, now: float) -> None:
        """End it if it is past its deadline."""

    def end(self, code: Ended, *, cut_off: bool = True) -> None:
        """End it from outside."""

    def drain(self) -> None:
        """End it as soon as nothing is lost by it."""

    def idle_since(self) -> float | None:
        """Since when it is known to want nothing, though it could; None where it may want something."""

    def dismiss(self) -> bool:
        """End it if it wants nothing at this moment, to make room; whether it does."""


@dataclass
class Common:
    """What all listeners of a process share: the end of one's session is room for another's."""

    router: Router
    metrics: MetricsCollector
    sessions: set[Session]
    servers: Sequence[ProxyServer] = ()
    access_log: RecordSink | None = None
    clock: Callable[[], float] = time.monotonic
    stories: Stories = field(default_factory=Stories)


class Service:
    """One listener. `serve` is the ProxyServer's handler."""

    def __init__(self, name: str, common: Common):
        self.name = name
        self.router = common.router
        self.metrics = common.metrics
        self.stats = common.metrics.listener(name)
        self.sessions = common.sessions
        self.servers = common.servers
        self.access_log = common.access_log
        self.clock = common.clock
        self.stories = common.stories
        self.server: ProxyServer | None = None
        self.draining = False  # every session is to end as soon as it can

    def serve(self, sock: Socket, peer: Any) -> None:
        """Take over a client's socket."""
        raise NotImplementedError

    def refusals(self) -> Refusals:
        """What turns clients away for whom there is no room."""
        raise NotImplementedError

    def count_rejected(self) -> None:
        self.stats.rejected += 1

    @property
    def targets(self) -> Sequence[Target]:
        """The upstreams that it may use."""
        raise NotImplementedError

    def drain(self) -> None:
        """Every session is to end as soon as it can."""
        self.draining = True

    def opened(self, session: Session) -> None:
        self.sessions.add(session)
        self.metrics.view[Slot.CONNECTIONS_ACCEPTED] += 1

    def closed(self, session: Session) -> None:
        self.sessions.discard(session)
        if self.server is not None:
            self.server.session_over()
        if len(self.servers) > 1:
            for server in self.servers:
                server.wake()
