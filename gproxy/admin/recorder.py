"""Recorder: keeps the history, whether or not anybody looks on, and hands it over to the next steward.

totals of all processes ─▶ History ─┐
ejections, as workers count them ─▶ Flips ─┴▶ Streams        (and a Keepsake, now and then and at the end)
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import count
from typing import Any, Final

import gevent

from gproxy.admin.desk import Desk, log
from gproxy.admin.flips import Flip
from gproxy.admin.history import PERIOD, states_of
from gproxy.admin.keepsake import Keepsake
from gproxy.metrics import MetricsCollector
from gproxy.net.background import forever

_KEEP_EVERY: Final = 5  # samples: what a steward that is killed takes along, at the most


class Recorder:
    """`start` when nobody else records, then `stop`."""

    def __init__(self, desk: Desk, keepsake: Keepsake):
        self._desk = desk
        self._keepsake = keepsake
        self._ejections: dict[tuple[str, str], tuple[int, int]] = {}  # how often, and whether now, at the last look
        self._turns = count(1)
        self._runner: Any = None

    def start(self) -> None:
        if self._runner is None:
            self._remember()
            self._keep()
            self._runner = gevent.spawn(forever, self._step, log)

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.kill(block=False)
            self._runner = None
            self._keep()
        self._desk.streams.end()

    def tick(self) -> None:
        """Take a sample and tell of it."""
        desk = self._desk
        total = desk.totals.total()
        desk.history.observe(desk.clock(), total, states_of([*desk.upstreams.values()], total))
        self._look_for_ejections(total)
        desk.streams.ring()

    def _step(self) -> None:
        self.tick()
        if next(self._turns) % _KEEP_EVERY == 0:
            self._keep()
        gevent.sleep(PERIOD)

    def _look_for_ejections(self, total: MetricsCollector) -> None:
        """Workers eject for themselves, and say so in their counters alone."""
        for stats in total.backends:
            pair = stats.upstream, stats.backend
            times, was_out = self._ejections.get(pair, (stats.ejections, stats.ejected))
            self._ejections[pair] = stats.ejections, stats.ejected
            if stats.ejections > times:
                self._desk.flipped("ejected", "ejected", *pair, why="a worker met failures, or was asked to")
            elif was_out and not stats.ejected and stats.healthy:
                self._desk.flipped("returned", "its ejection is over", *pair)

    def _keep(self) -> None:
        desk = self._desk
        kept = {"generation": desk.instance.generation, "history": desk.history.dump(), "flips": desk.flips.dump()}
        self._keepsake.write(json.dumps(kept).encode())

    def _remember(self) -> None:
        """What the steward before us has kept."""
        desk, generation = self._desk, self._desk.instance.generation
        data = self._keepsake.read()
        kept: dict[str, Any] = json.loads(data) if data else {"generation": 0, "flips": []}
        if data:
            desk.history.load(kept["history"])
        what = "gproxy was started" if generation == 1 else f"configuration {generation} is in effect"
        if kept["generation"] == generation:
            what = "the steward was replaced"
        desk.flips.load([*kept["flips"], asdict(Flip(desk.clock(), "began", what))])

    def __repr__(self) -> str:
        return f"<Recorder {self._desk.history!r}>"
