"""Pushes snapshots of the counters to StatsD over UDP, and never lets its absence be felt.

    every `interval`: look at the last push's fate ─► (re)resolve ─► snapshot ─► datagrams

UDP says little: a datagram that nobody took shows, if at all, as an error on the
connected socket, at once or later. So a push is judged by what it raised and by what
the socket holds when the next one is due. Counters of a push that failed at once are
in the next one; what was lost later stays lost, as always with StatsD.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import gevent
import gevent.socket
from statsd.client.udp import StatsClient

from gproxy.core.settings import StatsdSettings
from gproxy.metrics import Sample, Snapshot, changes, sanitise
from gproxy.net.background import forever

DATAGRAM: Final = 1432  # bytes: what fits an Ethernet frame beside its headers, with room for a tunnel's
RESOLVE_INTERVAL: Final = 60.0  # seconds that an address is used before the name is looked up again
RESOLVE_TIMEOUT: Final = 5.0  # seconds for a look-up; its thread may hang on longer
STOP_TIMEOUT: Final = 1.0  # seconds for the last push

_log = logging.getLogger("gproxy.statsd")

Resolve = Callable[..., list[Any]]


class Counted(Protocol):
    """What is reported: one process's counters, or all of them."""

    def snapshot(self) -> Snapshot:
        """As it is now."""

    @property
    def before(self) -> Snapshot | None:
        """As it was told last."""

    def told(self, snapshot: Snapshot) -> None:
        """StatsD was told of it."""


class StatsdReporter:
    """A greenlet that pushes what changed every `interval` seconds."""

    def __init__(
        self,
        settings: StatsdSettings,
        interval: float,
        collector: Counted,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = gevent.sleep,
        resolve: Resolve = gevent.socket.getaddrinfo,
    ):
        self._settings = settings
        self._interval = interval
        self._collector = collector
        self._clock, self._sleep, self._resolve = clock, sleep, resolve
        self._prefix = ".".join(sanitise(node) for node in settings.prefix.split(".") if node) or None
        self._client: _Client | None = None
        self._resolved_at = 0.0
        self._failures = 0  # each one moves on to the host's next address
        self._failing = False
        self.gauges = True  # whether gauges are pushed, too
        self._greenlet: gevent.Greenlet | None = None

    def __repr__(self) -> str:
        state = "failing" if self._failing else "ok"
        return f"<StatsdReporter {self._settings.host}:{self._settings.port} {state}>"

    def start(self) -> None:
        """Push from now on; the first time after `interval`."""
        if self._greenlet is None:
            self._greenlet = gevent.spawn(forever, self._run, _log)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Push a last time, in at most `timeout` seconds, and let go of the socket."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        with gevent.Timeout(timeout, False):
            self.push()
        self._disconnect()

    def push(self) -> None:
        """Send what changed since the last push. Doesn't raise, and yields only to resolve a name."""
        try:
            self._judge_last_push()
            client = self._connected()
            snapshot = self._collector.snapshot()
            samples = changes(self._collector.before, snapshot)
            client.push([sample for sample in samples if self.gauges or sample.kind != "g"])
            self._collector.told(snapshot)
        except (OSError, UnicodeError) as error:
            self._failed(error)

    def _run(self) -> None:
        self._sleep(self._interval)
        self.push()

    def _judge_last_push(self) -> None:
        if self._client is None:
            return
        if error := self._client.pending_error():
            self._failed(error)
        elif self._failing:
            self._failing = False
            _log.info("statsd at %s:%d takes metrics again", self._settings.host, self._settings.port)

    def _connected(self) -> _Client:
        """A client for the host's present address. An old address is better than none."""
        now = self._clock()
        if self._client is not None and now - self._resolved_at < RESOLVE_INTERVAL:
            return self._client
        self._resolved_at = now
        try:
            found = self._look_up()
            client = _Client(*found[self._failures % len(found)], self._prefix)
        except (OSError, UnicodeError):
            if self._client is None:
                raise
            return self._client
        self._disconnect()
        self._client = client
        return client

    def _look_up(self) -> list[tuple[int, Any]]:
        """Pairs of family and socket address, at least one."""
        with gevent.Timeout(RESOLVE_TIMEOUT, TimeoutError("the name could not be resolved in time")):
            found = self._resolve(self._settings.host, self._settings.port, type=socket.SOCK_DGRAM)
        return [(family, address) for family, _, _, _, address in found]

    def _failed(self, error: Exception) -> None:
        self._disconnect()
        self._failures += 1
        if not self._failing:
            self._failing = True
            _log.warning("statsd at %s:%d takes no metrics: %s", self._settings.host, self._settings.port, error)

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class _Client(StatsClient):  # type: ignore[misc]  # the package has no annotations
    """The package's client on a connected socket that doesn't block, and with errors shown.

    Its own constructor calls the blocking resolver, harmless with a numeric address.
    """

    _sock: socket.socket

    def __init__(self, family: int, address: Any, prefix: str | None):
        super().__init__(address[0], address[1], prefix, DATAGRAM, family == socket.AF_INET6)
        self._sock.setblocking(False)
        try:
            self._sock.connect(address)
        except OSError:
            self.close()
            raise

    def push(self, samples: list[Sample]) -> None:
        """Send samples, batched; OSError if the kernel already knows that nobody takes them."""
        pipeline = self.pipeline()
        for name, kind, value in samples:
            if kind == "c":
                pipeline.incr(name, value)
            else:
                pipeline.gauge(name, round(value, 3))
        pipeline.send()
        if error := self.pending_error():  # on loopback a refusal is known at once
            raise error

    def pending_error(self) -> OSError | None:
        """What became known of datagrams sent earlier. Asking forgets it."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(code, os.strerror(code)) if code else None

    def _send(self, data: str) -> None:
        with suppress(BlockingIOError):  # the kernel's buffer is full: this datagram is lost, as any may be
            self._sock.send(data.encode("ascii"))
