"""What is counted, and under which StatsD names it leaves.

Every number is a 64-bit slot of one anonymous shared mapping, written as
`view[slot] += n` without locks: gevent's greenlets don't preempt one another, and each
worker process has a row of its own in the same mapping (shared.py).

    process-wide | per code | per listener      | per backend    | histograms
    Slot.*       | closed   | ListenerStats.*   | BackendStats.* | SLOTS each

A `Snapshot` copies the slots under their StatsD names, and `changes`
turns two of them into what StatsD is told. Which kind a name has is decided in
`MetricsCollector.snapshot` alone.

Names: whatever StatsD or Graphite could take for syntax becomes `_` (see `sanitise`).
Termination codes keep their case, because `CD` (the client ended it) and `cD` (the
client was too slow) differ in nothing else; a normal end, `--`, is called `normal`.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gproxy.core.histogram import SLOTS, Histogram, percentile, since
from gproxy.core.settings import Config, Mode
from gproxy.core.termination import Ended

QUANTILES: Final = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class Slot:
    """The process-wide slots: `collector.view[Slot.BYTES_IN] += delta`."""

    CONNECTIONS_ACCEPTED: Final = 0
    ACTIVE: Final = 1  # gauge: open client sessions
    BYTES_IN: Final = 2  # client to backend
    BYTES_OUT: Final = 3  # backend to client
    POOL_DIRTY: Final = 4
    POOL_STALE: Final = 5
    POOL_OVERFLOW: Final = 6
    LOG_DROPPED: Final = 7
    HUB_LAG: Final = 8  # gauge: microseconds, the worst since the last snapshot
    COUNT: Final = 9


COUNTERS: Final = (
    ("connections_accepted", Slot.CONNECTIONS_ACCEPTED),
    ("bytes_in", Slot.BYTES_IN),
    ("bytes_out", Slot.BYTES_OUT),
    ("pool_dirty", Slot.POOL_DIRTY),
    ("pool_stale", Slot.POOL_STALE),
    ("pool_overflow", Slot.POOL_OVERFLOW),
    ("log_dropped", Slot.LOG_DROPPED),
)


class _Row:
    """Slots of `view` from `base` on that belong together."""

    __slots__ = ("base", "view")

    def __init__(self, view: memoryview[int], base: int):
        self.view = view
        self.base = base

    SLOTS: int = 0

    @property
    def slots(self) -> range:
        return range(self.base, self.base + self.SLOTS)


class _Cell:
    """One slot of a row as an attribute, so that `stats.connects += 1` counts (0.2 us)."""

    def __init__(self, offset: int):
        self.offset = offset

    def __get__(self, stats: _Row, owner: Any) -> int:
        return stats.view[stats.base + self.offset]

    def __set__(self, stats: _Row, value: int) -> None:
        stats.view[stats.base + self.offset] = value


class ListenerStats(_Row):
    """The numbers of one listener, as attributes; requests and responses are http's alone.

    Hot code spares the descriptors: `view[base + ListenerStats.REQUESTS] += 1`, and
    `view[base + status // 100] += 1` for a response of status 100 to 599.
    """

    __slots__ = ("listener",)

    REQUESTS: Final = 0
    COUNTERS: Final = (
        "requests", "responses_1xx", "responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx",
        "rejected", "idle_closed",
    )  # fmt: skip
    CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")  # of responses, in slots 1 to 5: the status's first digit
    ACTIVE: Final = 6  # gauge: open sessions
    SLOTS = 9

    requests = _Cell(REQUESTS)
    responses_1xx = _Cell(1)  # as the final answer: an upgrade's 101
    responses_2xx = _Cell(2)
    responses_3xx = _Cell(3)
    responses_4xx = _Cell(4)
    responses_5xx = _Cell(5)
    active = _Cell(ACTIVE)
    rejected = _Cell(7)  # clients turned away for want of room
    idle_closed = _Cell(8)  # idle clients closed to make room

    def __init__(self, view: memoryview[int], base: int, listener: str):
        super().__init__(view, base)
        self.listener = listener

    def __repr__(self) -> str:
        values = " ".join(f"{name}={count}" for name, count in self.responses())
        return f"<ListenerStats {self.listener} requests={self.requests} {values}>"

    def responses(self) -> Iterator[tuple[str, int]]:
        """Each class of responses, such as `2xx`, and how many there were."""
        return zip(self.CLASSES, self.view[self.base + 1 : self.base + self.ACTIVE], strict=True)


class BackendStats(_Row):
    """The numbers of one backend: read, set and add to them as plain int attributes."""

    __slots__ = ("backend", "upstream")

    COUNTERS: Final = ("connects", "connect_failures", "reuses", "retries", "timeouts", "ejections")
    GAUGES: Final = ("pool_idle", "queue", "ejected")
    CONNECTS: Final = 0  # for hot code: view[base + CONNECTS]
    REUSES: Final = 2
    FIRST_GAUGE: Final = 6
    SLOTS = 11

    connects = _Cell(CONNECTS)  # dials that succeeded
    connect_failures = _Cell(1)
    reuses = _Cell(REUSES)  # times an idle connection was lent again
    retries = _Cell(3)  # sessions that went on to another backend after this one failed
    timeouts = _Cell(4)
    ejections = _Cell(5)
    active = _Cell(FIRST_GAUGE)  # gauge: borrowed connections
    pool_idle = _Cell(7)  # gauge
    queue = _Cell(8)  # gauge: borrowers who wait
    ejected = _Cell(9)  # gauge: 1 while ejected
    healthy = _Cell(10)  # gauge: 1 while up; 0 until somebody says so

    def __init__(self, view: memoryview[int], base: int, upstream: str, backend: str):
        super().__init__(view, base)
        self.upstream = upstream
        self.backend = backend

    def __repr__(self) -> str:
        values = " ".join(f"{name}={getattr(self, name)}" for name in ("healthy", "active", *self.GAUGES))
        return f"<BackendStats {self.upstream}/{self.backend} {values}>"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All numbers at one moment, by StatsD name. Counters are totals since the start."""

    gauges: dict[str, float]
    counters: dict[str, int]
    histograms: dict[str, list[int]]
    largest: frozenset[str] = frozenset()  # the gauges of which several processes' largest counts, not their sum
    health: frozenset[str] = frozenset()  # the gauges that the present configuration's steward alone can tell


class Sample(NamedTuple):
    """One value for StatsD. Kind `g` is a gauge, `c` a counter's growth."""

    name: str
    kind: str
    value: float


class MetricsCollector:
    """The counters of a process. Unknown names raise KeyError; nothing here blocks."""

    def __init__(
        self,
        backends: Sequence[tuple[str, str]],
        http_listeners: Sequence[str] = (),
        tcp_listeners: Sequence[str] = (),
        view: memoryview[int] | None = None,
    ):
        """`backends` are pairs of upstream and backend name; `view` is memory of somebody else's to count in."""
        closed = Slot.COUNT
        first_listener = closed + len(Ended)
        listeners = (*http_listeners, *tcp_listeners)
        first_backend = first_listener + len(listeners) * ListenerStats.SLOTS
        histograms = first_backend + len(backends) * BackendStats.SLOTS
        self.view = _allocate(histograms + 3 * SLOTS) if view is None else view
        self._first_listener = first_listener
        self._closed = {code.value: closed + i for i, code in enumerate(Ended)}
        self._listeners = {
            name: ListenerStats(self.view, first_listener + i * ListenerStats.SLOTS, name)
            for i, name in enumerate(listeners)
        }
        self._backends = {
            pair: BackendStats(self.view, first_backend + i * BackendStats.SLOTS, *pair)
            for i, pair in enumerate(backends)
        }
        self._named = list(zip(_unique(backends), self._backends.values(), strict=True))
        listener_names = _unique([(name,) for name in listeners])
        self._named_listeners = [
            (name, stats) for (name,), stats in zip(listener_names, self._listeners.values(), strict=True)
        ]
        self._named_http = self._named_listeners[: len(http_listeners)]
        self.connect_time = Histogram(self.view, histograms)
        self.session_time = Histogram(self.view, histograms + SLOTS)
        self.response_time = Histogram(self.view, histograms + 2 * SLOTS)
        self.lagging: list[Callable[[], object]] = []  # those who count late: what makes them add up what they have

    @classmethod
    def of(cls, config: Config, view: memoryview[int] | None = None) -> MetricsCollector:
        """For what a configuration names."""
        pairs = [(u.name, b.name) for u in config.upstreams for b in u.backends]
        names = {mode: [x.name for x in config.listeners if x.mode is mode] for mode in Mode}
        return cls(pairs, names[Mode.HTTP], names[Mode.TCP], view)

    def __repr__(self) -> str:
        accepted, active = self.view[Slot.CONNECTIONS_ACCEPTED], self.view[Slot.ACTIVE]
        return f"<MetricsCollector accepted={accepted} active={active} backends={len(self._backends)}>"

    def count(self, slot: int, n: int = 1) -> None:
        """Add to one of `Slot`. Hot code writes `view[slot] += n` itself."""
        self.view[slot] += n

    def session_closed(self, code: str) -> None:
        """Count a session under its termination code."""
        self.view[self._closed[code]] += 1

    def backend(self, upstream: str, name: str) -> BackendStats:
        return self._backends[upstream, name]

    def listener(self, name: str) -> ListenerStats:
        return self._listeners[name]

    @property
    def backends(self) -> Collection[BackendStats]:
        return self._backends.values()

    @property
    def listeners(self) -> Collection[ListenerStats]:
        """Those of http first."""
        return self._listeners.values()

    @property
    def http_listeners(self) -> list[ListenerStats]:
        return [stats for _, stats in self._named_http]

    def closed(self) -> Iterator[tuple[str, int]]:
        """Each termination code, and how many sessions ended with it."""
        return ((code, self.view[slot]) for code, slot in self._closed.items())

    def catch_up(self) -> None:
        """Bring every counter up to date, for whoever reads them."""
        for add_up in self.lagging:
            add_up()

    def hub_lag(self, seconds: float) -> None:
        """Say how late the event loop was; the worst until the next snapshot is kept."""
        lag = int(seconds * 1e6)
        if lag > self.view[Slot.HUB_LAG]:
            self.view[Slot.HUB_LAG] = lag

    def snapshot(self) -> Snapshot:
        """Copy everything, and start the hub's lag anew: one reader, the reporter, is meant."""
        self.catch_up()
        result = Snapshot(
            dict(self._gauges()), dict(self._counters()), self._histograms(), self._largest(), self._health()
        )
        self.view[Slot.HUB_LAG] = 0
        return result

    # Of several processes.

    @property
    def active(self) -> int:
        """Open client sessions."""
        return self.view[Slot.ACTIVE]

    def clear_gauges(self) -> None:
        """The process whose numbers these are has ended."""
        for slot in self._gauge_slots():
            self.view[slot] = 0

    def add_counters(self, other: MetricsCollector) -> None:
        """Add another one's counters and histograms, as far as there are the same names here."""
        for mine, theirs in self._common(other):
            gauges = {slot - theirs.start for slot in other._gauge_slots() if slot in theirs}
            for offset, slot in enumerate(mine):
                if offset not in gauges:
                    self.view[slot] += other.view[theirs[offset]]

    def add_all(self, other: MetricsCollector) -> None:
        """Add another configuration's counters, and the gauges of what still goes on there; what is said of the
        backends' state stays.
        """
        lag = max(self.view[Slot.HUB_LAG], other.view[Slot.HUB_LAG])
        said = [(stats, stats.ejected, stats.healthy) for stats in self._backends.values()]
        for mine, theirs in self._common(other):
            for slot, their_slot in zip(mine, theirs, strict=True):
                self.view[slot] += other.view[their_slot]
        for stats, ejected, healthy in said:
            stats.ejected, stats.healthy = ejected, healthy
        self.view[Slot.HUB_LAG] = lag

    def settle(self, workers: Sequence[MetricsCollector], steward: MetricsCollector) -> None:
        """For the sum of all processes: put right the gauges that don't add up."""
        self.view[Slot.HUB_LAG] = max(worker.view[Slot.HUB_LAG] for worker in workers)
        for pair, stats in self._backends.items():
            stats.healthy = steward._backends[pair].healthy
            stats.ejected = max(worker._backends[pair].ejected for worker in workers)

    def _common(self, other: MetricsCollector) -> Iterator[tuple[range, range]]:
        """Slots here and in another collector that count the same."""
        yield range(self._first_listener), range(other._first_listener)
        histograms = len(self.view) - self.connect_time.base
        yield range(len(self.view) - histograms, len(self.view)), range(len(other.view) - histograms, len(other.view))
        for mine, theirs in ((self._listeners, other._listeners), (self._backends, other._backends)):
            for name in mine.keys() & theirs.keys():
                yield mine[name].slots, theirs[name].slots  # type: ignore[index]

    def _gauge_slots(self) -> Iterator[int]:
        yield from (Slot.ACTIVE, Slot.HUB_LAG)
        yield from (listener.base + ListenerStats.ACTIVE for listener in self._listeners.values())
        for stats in self._backends.values():
            yield from range(stats.base + BackendStats.FIRST_GAUGE, stats.base + BackendStats.SLOTS)

    def _largest(self) -> frozenset[str]:
        names = [f"upstream.{upstream}.backend.{backend}.ejected" for (upstream, backend), _ in self._named]
        return frozenset(("hub_lag", *names))

    def _health(self) -> frozenset[str]:
        return frozenset(f"backend_health_status.{upstream}.{backend}" for (upstream, backend), _ in self._named)

    # What StatsD was told last: None before the first time.

    before: Snapshot | None = None

    def told(self, snapshot: Snapshot) -> None:
        self.before = snapshot

    def _gauges(self) -> Iterator[tuple[str, float]]:
        yield "active_connections_total", self.view[Slot.ACTIVE]
        yield "hub_lag", self.view[Slot.HUB_LAG] / 1000
        for listener, numbers in self._named_listeners:
            yield f"active_connections.{listener}", numbers.active
        for (upstream, backend), stats in self._named:
            yield f"connections_per_backend.{upstream}.{backend}", stats.active
            yield f"backend_health_status.{upstream}.{backend}", stats.healthy
            for name in BackendStats.GAUGES:
                yield f"upstream.{upstream}.backend.{backend}.{name}", getattr(stats, name)

    def _counters(self) -> Iterator[tuple[str, int]]:
        for name, slot in COUNTERS:
            yield name, self.view[slot]
        yield "bytes_transferred_total", self.view[Slot.BYTES_IN] + self.view[Slot.BYTES_OUT]
        for code, slot in self._closed.items():
            if self.view[slot]:  # most codes are never seen: no name, no Graphite file for those
                yield f"sessions_closed.{code_name(code)}", self.view[slot]
        for listener, numbers in self._named_listeners:
            yield f"connections_rejected.{listener}", numbers.rejected
        for listener, numbers in self._named_http:
            yield f"idle_clients_closed.{listener}", numbers.idle_closed
            yield f"requests.{listener}", numbers.requests
            for status_class, count in numbers.responses():
                yield f"responses.{listener}.{status_class}", count
        for (upstream, backend), stats in self._named:
            for name in BackendStats.COUNTERS:
                yield f"upstream.{upstream}.backend.{backend}.{name}", getattr(stats, name)

    def _histograms(self) -> dict[str, list[int]]:
        named = ("connect_time", "response_time", "session_time")
        return {name: getattr(self, name).counts() for name in named}


def changes(before: Snapshot | None, after: Snapshot) -> list[Sample]:
    """What to tell StatsD about the time between two snapshots (None: since the start).

    Gauges as they are, counters' growth (zero too, so that a series has no gaps),
    percentiles in ms of what was recorded in between, or nothing if nothing was.
    """
    then = before or Snapshot({}, {}, {})
    samples = [Sample(name, "g", value) for name, value in after.gauges.items()]
    samples += [Sample(name, "c", total - then.counters.get(name, 0)) for name, total in after.counters.items()]
    for name, counts in after.histograms.items():
        samples += _percentiles(name, since(counts, then.histograms.get(name, [0] * len(counts))))
    return samples


def _percentiles(name: str, counts: Sequence[int]) -> list[Sample]:
    """In ms; nothing if nothing was recorded."""
    if not any(counts):
        return []
    return [Sample(f"{name}.{label}", "g", percentile(counts, q) * 1000) for label, q in QUANTILES]


def sanitise(name: str) -> str:
    """A name as one node of a Graphite path: `127.0.0.1:9100` becomes `127_0_0_1_9100`."""
    return _UNSAFE.sub("_", name) or "_"


def code_name(code: str) -> str:
    """A termination code as a node: as it is, but `normal` for `--`."""
    return "normal" if code == Ended.NORMAL else sanitise(code)


def _unique(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Sanitised paths; `b.1` after `b_1` becomes `b_1_2`, or one would overwrite the other's gauges."""
    taken: set[tuple[str, ...]] = set()
    result = []
    for path in paths:
        free = _free(tuple(sanitise(node) for node in path), taken)
        taken.add(free)
        result.append(free)
    return result


def _free(path: tuple[str, ...], taken: set[tuple[str, ...]]) -> tuple[str, ...]:
    *above, name = path
    free, n = path, 1
    while free in taken:
        n += 1
        free = (*above, f"{name}_{n}")
    return free


def _allocate(slots: int) -> memoryview[int]:
    """Zeroed 64-bit slots that a forked child would share."""
    return memoryview(mmap.mmap(-1, slots * 8)).cast("q")
