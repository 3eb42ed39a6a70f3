"""NameWatcher: looks up the host names of backends, again and again, and keeps what it knew when that fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import gevent

from gproxy.net.background import forever
from gproxy.net.resolve import Resolve, ResolveError, resolve
from gproxy.upstream import Backend, Upstream

log = logging.getLogger("gproxy.discovery")

_UNKNOWN_RETRY = 2.0  # seconds between look-ups of a name that has never had an address


class NameWatcher:
    """One greenlet per backend with a host name; none for numeric addresses."""

    def __init__(self, upstreams: Sequence[Upstream], resolve: Resolve = resolve):
        self._resolve = resolve
        self._named = [b for u in upstreams for b in u.backends if not b.settings.address.is_numeric]
        self._failing: set[Backend] = set()
        self._runners: list[Any] = []

    def first_round(self, timeout: float) -> None:
        """Look every name up once, at the same time, for at most `timeout` seconds."""
        lookups = [gevent.spawn(self.look_up, backend) for backend in self._named]
        gevent.joinall(lookups, timeout=timeout)

    def start(self) -> None:
        self._runners = [gevent.spawn(forever, partial(self._run, backend), log) for backend in self._named]

    def stop(self) -> None:
        gevent.killall(self._runners, block=False)

    def look_up(self, backend: Backend) -> None:
        """Bring one backend's addresses up to date; the old ones stay when nobody knows better."""
        try:
            endpoints = self._resolve(backend.settings.address)
        except ResolveError as error:
            self._failed(backend, error)
            return
        self._failing.discard(backend)
        if set(endpoints) == set(backend.endpoints):
            return
        if backend.upstream.speaks:
            log.info("backend %s is at %s", backend.label, ", ".join(map(str, endpoints)))
        backend.endpoints = tuple(endpoints)
        backend.pool.empty()  # its connections may lead to an address that is gone
        backend.upstream.changed(backend)

    def _failed(self, backend: Backend, error: ResolveError) -> None:
        """One line when it begins to fail."""
        if backend in self._failing:
            return
        self._failing.add(backend)
        kept = "its last addresses are kept" if backend.endpoints else "it gets no sessions until that works"
        if backend.upstream.speaks:
            log.warning("backend %s: %s; %s", backend.label, error, kept)

    def _run(self, backend: Backend) -> None:
        gevent.sleep(backend.upstream.settings.resolve_interval if backend.endpoints else _UNKNOWN_RETRY)
        self.look_up(backend)
