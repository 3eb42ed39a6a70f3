"""NameWatcher: looks up the host names of backends, again and again, and keeps what it knew when that fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import gevent

from gproxy.net.resolve import Resolve, ResolveError, resolve
from gproxy.upstream import Backend, Upstream

log = logging.getLogger("gproxy.discovery")

_UNKNOWN_RETRY = 1.0  # seconds between look-ups of a name that has never had an address


class NameWatcher:
    """One greenlet per upstream that has backends with host names; none for numeric addresses."""

    def __init__(self, upstreams: Sequence[Upstream], resolve: Resolve = resolve):
        self._resolve = resolve
        self._named = {u: [b for b in u.backends if not b.settings.address.is_numeric] for u in upstreams}
        self._failing: set[Backend] = set()
        self._runners: list[Any] = []

    def first_round(self, timeout: float) -> None:
        """Look every name up once, at the same time, for at most `timeout` seconds."""
        lookups = [gevent.spawn(self.look_up, backend) for named in self._named.values() for backend in named]
        gevent.joinall(lookups, timeout=timeout)

    def start(self) -> None:
        self._runners = [gevent.spawn(self._run, u, named) for u, named in self._named.items() if named]

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
        log.info("backend %s is at %s", backend.label, ", ".join(map(str, endpoints)))
        backend.endpoints = endpoints
        backend.pool.empty()  # its connections may lead to an address that is gone
        backend.upstream.changed(backend)

    def _failed(self, backend: Backend, error: ResolveError) -> None:
        """One line when it begins to fail."""
        if backend in self._failing:
            return
        self._failing.add(backend)
        kept = "its last addresses are kept" if backend.endpoints else "it gets no sessions until that works"
        log.warning("backend %s: %s; %s", backend.label, error, kept)

    def _run(self, upstream: Upstream, named: Sequence[Backend]) -> None:
        while True:
            known = all(backend.endpoints for backend in named)
            gevent.sleep(upstream.settings.resolve_interval if known else _UNKNOWN_RETRY)
            for backend in named:
                self.look_up(backend)
