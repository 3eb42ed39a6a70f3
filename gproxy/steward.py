"""Steward: the one process that checks the backends, reports to StatsD and serves the admin API, for all workers.

It serves no client. What it finds out stands on the board of the shared memory (shared.py), where the workers read
it. Its death is no outage: they go on with what they know until the next one has started.
"""

from __future__ import annotations

import logging
import time
from _socket import socket as Socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import gevent

from gproxy.admin.desk import Desk, Instance, Reload
from gproxy.admin.flips import Flips
from gproxy.admin.history import History
from gproxy.admin.keepsake import Keepsake
from gproxy.admin.questions import Questions
from gproxy.admin.recorder import Recorder
from gproxy.admin.server import AdminServer
from gproxy.admin.state import news_document
from gproxy.admin.streams import Streams
from gproxy.building import checks_of, longest_check
from gproxy.core.balance import RoundRobin
from gproxy.core.settings import Config, UpstreamSettings
from gproxy.discovery import NameWatcher
from gproxy.health import HealthMonitor
from gproxy.net.resolve import LOOKUP_TIMEOUT
from gproxy.shared import Shared, Totals
from gproxy.statsd import StatsdReporter
from gproxy.timeouts import TimeoutManager
from gproxy.upstream import Backend, Upstream

log = logging.getLogger("gproxy.steward")

_LOOK = 1.0  # seconds between looks at pools and gauges


class AdminPost(NamedTuple):
    """What the master gives the steward for the admin API."""

    sockets: Sequence[Socket]
    instance: Instance
    say: Callable[..., bool]  # tells the master; whether it was taken
    reload: Reload | None  # the last one, so far
    keepsake: Keepsake  # for the next steward


def _without_clients(settings: UpstreamSettings) -> UpstreamSettings:
    """Its pools serve checks alone."""
    return replace(settings, pool=replace(settings.pool, preconnect=0))


class Steward:
    """For one configuration. `start`, then `report` when no earlier one reports any more, then `stop`."""

    def __init__(self, config: Config, shared: Shared, earlier: Iterable[Shared] = (), post: AdminPost | None = None):
        """`earlier` are configurations whose last sessions are still about: they are counted, too."""
        self.shared = shared
        self.metrics = shared.steward_row()
        self._totals = Totals(shared, earlier)
        self.upstreams = [
            Upstream(_without_clients(settings), self.metrics, lambda _backends: RoundRobin())
            for settings in config.upstreams
        ]
        for upstream in self.upstreams:
            upstream.speaks = False  # what is inherited is no news
            for backend in upstream.backends:
                backend.inherit(shared.line(upstream.name, backend.name))
            upstream.speaks = True
        self._names = NameWatcher(self.upstreams)
        self._longest_check = longest_check(config)
        self._health = HealthMonitor(checks_of(self.upstreams, self._flipped))
        self._sweeper = TimeoutManager(lambda: (), self.upstreams, _LOOK)
        self._statsd = None
        self._reports = False
        if config.statsd is not None:
            self._statsd = StatsdReporter(config.statsd, config.metrics_interval, self._totals)
        self._admin: AdminServer | None = None
        self._recorder: Recorder | None = None
        if post is not None and config.admin is not None:
            desk = self._desk(config, post)
            self._admin = AdminServer(config.admin, post.sockets, desk)
            self._recorder = Recorder(desk, post.keepsake)

    def start(self) -> None:
        """Check everybody of whom nothing is known, tell the workers that this is done, and go on checking."""
        self._names.first_round(LOOKUP_TIMEOUT)
        self._health.first_round(self._longest_check)
        self.shared.checked = True
        self._names.start()
        self._health.start()
        self._sweeper.sweep()
        self._sweeper.start()

    def report(self, before: Sequence[Shared] = ()) -> None:
        """Push to StatsD and serve the admin API from now on. The stewards before us have ended.

        `before`: of the configurations that were in effect since a steward did this last, that one's first.
        """
        self._learn_orders(before)
        if self._admin is not None and self._recorder is not None:
            self._recorder.start()
            self._admin.start()
        if self._statsd is not None:
            self._statsd.start()
            self._reports = True

    def retire(self) -> None:
        """Another master's steward reports as well: its gauges count, and of ours only what is still counted."""
        if self._admin is not None:
            gevent.spawn(self._admin.stop)
        if self._statsd is not None:
            self._statsd.gauges = False

    def ending(self) -> None:
        """Sessions get their time to end, and nobody new is served."""
        if self._admin is not None:
            self._admin.desk.ending = True
            self._admin.desk.streams.ring()

    def reloaded(self, reload: Reload) -> None:
        """How the last reload goes, for operators."""
        if self._admin is not None:
            self._admin.desk.reload = reload
            if reload.outcome == "failed":
                self._admin.desk.flipped("failed", "a reload has failed, and changes nothing", why=reload.why)

    def answered(self, number: int, answer: Any) -> None:
        """A worker's answer to a question of ours."""
        if self._admin is not None:
            self._admin.desk.questions.answered(number, answer)

    def over(self, earlier: Shared) -> None:
        """The last session of an earlier configuration has ended."""
        if self._statsd is not None and self._reports:
            self._statsd.push()  # some of its names may not live on
        self._totals.over(earlier)

    def stop(self) -> None:
        if self._admin is not None and self._recorder is not None:
            self._recorder.stop()
            self._admin.stop()
        for part in (self._names, self._health, self._sweeper):
            part.stop()
        for upstream in self.upstreams:
            upstream.close()
        if self._statsd is not None and self._reports:
            self._statsd.stop()

    def _desk(self, config: Config, post: AdminPost) -> Desk:
        desk = Desk(
            post.instance,
            config,
            self.shared,
            self._totals,
            {upstream.name: upstream for upstream in self.upstreams},
            post.say,
            Questions(post.say),
            History([(upstream.name, backend.name) for upstream in self.upstreams for backend in upstream.backends]),
            Flips(),
            Streams(lambda place: news_document(desk, place)),
        )
        desk.reload = post.reload
        return desk

    def _learn_orders(self, before: Sequence[Shared]) -> None:
        """While we started, operators may have told a steward before us something."""
        for earlier, later in pairwise((*before, self.shared)):
            later.learn_orders(earlier)
        for upstream in self.upstreams:
            for backend in upstream.backends:
                backend.follow(self.shared.line(upstream.name, backend.name))

    def _flipped(self, upstream: Upstream, backend: Backend, why: str) -> None:
        self.shared.line(upstream.name, backend.name).operational = backend.health.operational
        self.shared.changed()
        upstream.flipped(backend, why)
        if self._admin is not None:
            state = backend.health.operational.value
            self._admin.desk.flipped(state, f"is {state}", upstream.name, backend.name, why=why)

    def __repr__(self) -> str:
        return f"<Steward at {time.monotonic():.0f} s, {self.upstreams!r}>"
