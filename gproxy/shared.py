"""The memory that all processes of one configuration share: what is known of backends, and what was counted.

    header | board: a line per backend | a row of counters per worker | the steward's | carried | reported

Every number is a 64-bit slot of an anonymous mapping, made by the master before it forks. Nothing is locked,
because every slot has one writer:

| what | who writes | who reads |
|---|---|---|
| a worker's row, its sign of life | that worker; the master, when it has died | the steward |
| a backend's operational state | the steward | the workers |
| its administrative state and weight | the steward | the workers |
| how long its connections may idle | any worker: the last one is right | workers that start |
| carried, reported | the steward | the steward, and the next one |

`carried` holds what was counted under earlier configurations, `reported` what StatsD was told, so that neither is
lost or doubled when a configuration or the steward is replaced.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterable, Sequence
from typing import Final

from gproxy.core.health import Administrative, Operational
from gproxy.core.settings import Config, Probe
from gproxy.metrics import MetricsCollector, Slot, Snapshot

_VERSION: Final = 0  # grows with every change of the board
_CHECKED: Final = 1  # 1 once every backend was checked, or has had the time for it
_HEADER: Final = 2

_OPERATIONAL, _ADMINISTRATIVE, _WEIGHT, _IDLE_LIMIT = range(4)  # what a line has; 0 says nothing
_LINE: Final = 4

_OPERATIONALS = tuple(Operational)
_ADMINISTRATIVES = tuple(Administrative)


class BackendLine:
    """What all processes know of one backend. Whoever sets anything tells the board that it `changed`."""

    __slots__ = ("_at", "_view")

    def __init__(self, view: memoryview[int], at: int):
        self._view = view
        self._at = at

    @property
    def operational(self) -> Operational:
        return _OPERATIONALS[self._view[self._at + _OPERATIONAL]]

    @operational.setter
    def operational(self, state: Operational) -> None:
        self._view[self._at + _OPERATIONAL] = _OPERATIONALS.index(state)

    @property
    def administrative(self) -> Administrative:
        return _ADMINISTRATIVES[self._view[self._at + _ADMINISTRATIVE]]

    @administrative.setter
    def administrative(self, state: Administrative) -> None:
        self._view[self._at + _ADMINISTRATIVE] = _ADMINISTRATIVES.index(state)

    @property
    def weight(self) -> int | None:
        """An operator's; None where the configured one holds."""
        return self._view[self._at + _WEIGHT] or None

    @weight.setter
    def weight(self, weight: int | None) -> None:
        self._view[self._at + _WEIGHT] = weight or 0

    @property
    def idle_limit(self) -> float | None:
        """Seconds after which it closes idle connections, less a margin; None where nothing is known."""
        return self._view[self._at + _IDLE_LIMIT] / 1e6 or None

    @idle_limit.setter
    def idle_limit(self, seconds: float | None) -> None:
        self._view[self._at + _IDLE_LIMIT] = int((seconds or 0) * 1e6)

    def copy(self, other: BackendLine) -> None:
        """Take over all that another one says."""
        self._view[self._at : self._at + _LINE] = other._view[other._at : other._at + _LINE]

    def __repr__(self) -> str:
        return f"<BackendLine {self.operational.value} {self.administrative.value} weight={self.weight}>"


class Shared:
    """One configuration's shared memory."""

    def __init__(self, config: Config):
        self.config = config
        self._width = len(MetricsCollector.of(config).view)
        lines = {(u.name, b.name): b.address for u in config.upstreams for b in u.backends}
        self._addresses = lines
        self._unchecked = {u.name for u in config.upstreams if u.health_check.type is Probe.NONE}
        alive = _HEADER + len(lines) * _LINE
        rows = alive + config.workers + 1
        count = config.workers + 3
        self._map = mmap.mmap(-1, (rows + count * self._width) * 8)
        self._view = view = memoryview(self._map).cast("q")
        self._lines = {pair: BackendLine(view, _HEADER + i * _LINE) for i, pair in enumerate(lines)}
        self._alive = alive
        self._rows = [view[rows + i * self._width : rows + (i + 1) * self._width] for i in range(count)]
        self._collectors: dict[int, MetricsCollector] = {}

    # The board.

    @property
    def version(self) -> int:
        """Another number after each change of the board."""
        return self._view[_VERSION]

    def changed(self) -> None:
        """The board has been written to."""
        self._view[_VERSION] += 1

    @property
    def checked(self) -> bool:
        """Whether the first round of checks is over."""
        return bool(self._view[_CHECKED])

    @checked.setter
    def checked(self, over: bool) -> None:
        self._view[_CHECKED] = over

    def line(self, upstream: str, backend: str) -> BackendLine:
        return self._lines[upstream, backend]

    def learn(self, earlier: Shared) -> None:
        """Take over what an earlier configuration's processes know of the backends that are the same here."""
        for pair, line in self._lines.items():
            if earlier._addresses.get(pair) == self._addresses[pair]:
                line.copy(earlier._lines[pair])
                if pair[0] in self._unchecked:  # nobody would find out that it is up again
                    line.operational = Operational.UNKNOWN

    def learn_orders(self, earlier: Shared) -> None:
        """Take over what operators have said since `learn`."""
        for pair, line in self._lines.items():
            if earlier._addresses.get(pair) == self._addresses[pair]:
                before = earlier._lines[pair]
                line.administrative, line.weight = before.administrative, before.weight
        self.changed()

    # Signs of life.

    def alive(self, slot: int) -> None:
        """A worker lives, or the steward: one more than the last worker."""
        self._view[self._alive + slot] = time.monotonic_ns()

    def seen_alive(self, slot: int) -> float:
        """When it last said so, on the monotonic clock; 0 if it never did."""
        return self._view[self._alive + slot] / 1e9

    def forget(self, slot: int) -> None:
        """A worker has ended: its gauges say nothing any more. Its counters stay, and the next one counts on."""
        self._view[self._alive + slot] = 0
        self.row(slot).clear_gauges()

    # The counters.

    def row(self, slot: int) -> MetricsCollector:
        """A worker's counters, or the steward's: one more than the last worker."""
        if slot not in self._collectors:  # it takes some milliseconds with many backends
            self._collectors[slot] = MetricsCollector.of(self.config, self._rows[slot])
        return self._collectors[slot]

    def steward_row(self) -> MetricsCollector:
        return self.row(self.config.workers)

    def elsewhere(self, own: int, slot: int) -> int:
        """What the other workers hold in a slot of their rows."""
        return sum(row[slot] for i, row in enumerate(self._rows[: self.config.workers]) if i != own)

    def clear_lag(self) -> None:
        """The worst lag was read: it starts anew."""
        for row in self._rows:
            row[Slot.HUB_LAG] = 0

    def active(self) -> int:
        """Open client sessions of all workers."""
        return self.total().active

    def total(self) -> MetricsCollector:
        """The sum of all rows, carried ones included: a copy."""
        total = MetricsCollector.of(self.config)
        for i, numbers in enumerate(zip(*self._rows[:-1], strict=True)):
            total.view[i] = sum(numbers)
        total.settle([self.row(i) for i in range(self.config.workers)], self.steward_row())
        return total

    def reported(self) -> MetricsCollector:
        """What StatsD was told last."""
        return self.row(len(self._rows) - 1)

    def absorb(self, earlier: Shared) -> None:
        """Carry on an earlier configuration's counters, of which no process is left, and what was reported of them."""
        carried, reported = self.row(len(self._rows) - 2), self.reported()
        carried.add_counters(earlier.total())
        reported.add_counters(earlier.reported())

    def __repr__(self) -> str:
        return f"<Shared {self.config.workers} workers, {len(self._lines)} backends, version {self.version}>"


class Totals:
    """What all processes have counted, for the StatsdReporter and for Prometheus."""

    def __init__(self, shared: Shared, earlier: Iterable[Shared] = ()):
        """`earlier` are configurations whose last sessions are still about."""
        self._shared = shared
        self._earlier = list(earlier)
        self._taken: list[tuple[Shared, MetricsCollector]] = []

    def snapshot(self) -> Snapshot:
        self._taken = [(shared, shared.total()) for shared in (self._shared, *self._earlier)]
        for shared in (self._shared, *self._earlier):
            shared.clear_lag()
        return merged([total.snapshot() for _, total in self._taken])

    def total(self) -> MetricsCollector:
        """The sum of all that has the names of the present configuration: a copy. The worst lag stays as it is."""
        total = self._shared.total()
        for earlier in self._earlier:
            total.add_all(earlier.total())
        return total

    @property
    def before(self) -> Snapshot:
        """As it was told last."""
        return merged([shared.reported().snapshot() for shared in (self._shared, *self._earlier)])

    def told(self, _snapshot: Snapshot) -> None:
        """The last snapshot has left."""
        for shared, total in self._taken:
            shared.reported().view[:] = total.view

    def over(self, earlier: Shared) -> None:
        """The last session of an earlier configuration has ended."""
        self._earlier.remove(earlier)
        self._shared.absorb(earlier)


def merged(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The sum, by names; what the first one says of the backends' health and names stands."""
    first, *others = snapshots
    gauges, counters, histograms = dict(first.gauges), dict(first.counters), dict(first.histograms)
    for other in others:
        for name in (gauges.keys() & other.gauges.keys()) - first.health:
            value = other.gauges[name]
            gauges[name] = max(gauges[name], value) if name in first.largest else gauges[name] + value
        for name, count in other.counters.items():
            counters[name] = counters.get(name, 0) + count
        for name, counts in other.histograms.items():
            histograms[name] = [a + b for a, b in zip(histograms[name], counts, strict=True)]
    return Snapshot(gauges, counters, histograms, first.largest, first.health)
