"""What the last ten minutes were like: a sample each PERIOD seconds, of the sums over all processes.

Counters are kept as what they grew by per second, durations as percentiles of what was recorded in between, gauges as
they were. Pure: the time and the sums are passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gproxy.core.health import Administrative, Operational
from gproxy.core.histogram import percentile, since
from gproxy.metrics import BackendStats, MetricsCollector, Slot
from gproxy.upstream import Backend, Upstream

PERIOD: Final = 2.0  # seconds
LENGTH: Final = 300  # samples

Number = float | None
Pair = tuple[str, str]  # upstream and backend

_FAULTS: Final = frozenset("SsDRI")  # who ends a session that failed through no fault of its client's

_GAUGES: Final[Mapping[str, Callable[[MetricsCollector], int]]] = {
    "sessions": lambda total: total.active,
    "lent": lambda total: sum(stats.active for stats in total.backends),
    "idle": lambda total: sum(stats.pool_idle for stats in total.backends),
    "waiting": lambda total: _waiting(total.backends),
}
_RATES: Final[Mapping[str, Callable[[MetricsCollector], int]]] = {
    "accepted": lambda total: total.view[Slot.CONNECTIONS_ACCEPTED],
    "requests": lambda total: sum(stats.requests for stats in total.http_listeners),
    "responses_4xx": lambda total: sum(stats.responses_4xx for stats in total.http_listeners),
    "responses_5xx": lambda total: sum(stats.responses_5xx for stats in total.http_listeners),
    "ended": lambda total: sum(count for _, count in total.closed()),
    "failed": lambda total: sum(count for code, count in total.closed() if code[0] in _FAULTS),
    "connect_failures": lambda total: sum(stats.connect_failures for stats in total.backends),
    "retries": lambda total: sum(stats.retries for stats in total.backends),
    "bytes_in": lambda total: total.view[Slot.BYTES_IN],
    "bytes_out": lambda total: total.view[Slot.BYTES_OUT],
}
_DURATIONS: Final = ("response_time", "connect_time", "session_time")
_SHARES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

COLUMNS: Final = (
    "at",  # monotonic seconds
    *_GAUGES,
    "able",  # backends that may serve
    *_RATES,  # per second
    *(f"{name}_{label}" for name in _DURATIONS for label in _SHARES),  # ms; None where nothing was recorded
)

STATES: Final = {"u": "up", "?": "unchecked", "d": "down", "e": "ejected", "r": "drain", "m": "maint", " ": "unknown"}
_ABLE: Final = "u?"
_UNKNOWN: Final = " "


class Reading(NamedTuple):
    """The counters at one moment."""

    at: float
    rates: Sequence[int]
    durations: Sequence[Sequence[int]]


class Sample(NamedTuple):
    numbers: Sequence[Number]  # by COLUMNS
    states: str  # one of STATES for each backend


class History:
    """Of these backends: `number` samples have been taken, and the last LENGTH are kept."""

    def __init__(self, backends: Sequence[Pair]):
        self._backends = list(backends)
        self._samples: deque[Sample] = deque(maxlen=LENGTH)
        self._before: Reading | None = None
        self.number = 0

    def observe(self, now: float, total: MetricsCollector, states: str) -> None:
        """Take a sample; the first look only begins to measure."""
        before, after = self._before, read(now, total)
        self._before = after
        if before is None or now <= before.at:
            return
        gauges = [measure(total) for measure in _GAUGES.values()]
        able = sum(states.count(state) for state in _ABLE)
        self._add(Sample((round(now, 3), *gauges, able, *_growth(before, after)), states))

    def after(self, number: int) -> list[Sequence[Number]]:
        """The samples beyond that number, as far as they are kept."""
        count = min(self.number - number, len(self._samples))
        return [sample.numbers for sample in list(self._samples)[len(self._samples) - count :]]

    def strips(self) -> dict[str, dict[str, str]]:
        """The states of each backend, the oldest first, by upstream and name."""
        found: dict[str, dict[str, str]] = {upstream: {} for upstream, _ in self._backends}
        for i, (upstream, name) in enumerate(self._backends):
            found[upstream][name] = "".join(sample.states[i] for sample in self._samples)
        return found

    def dump(self) -> dict[str, Any]:
        """For the next process."""
        return {"columns": COLUMNS, "backends": self._backends, "samples": list(self._samples)}

    def load(self, dumped: Mapping[str, Any]) -> None:
        """What an earlier process has dumped, of other backends perhaps."""
        if dumped["columns"] != list(COLUMNS):
            return  # it was of another version
        places = {tuple(pair): i for i, pair in enumerate(dumped["backends"])}
        kept = [places.get(pair) for pair in self._backends]
        for numbers, states in dumped["samples"]:
            self._add(Sample(numbers, "".join(_UNKNOWN if i is None else states[i] for i in kept)))

    def _add(self, sample: Sample) -> None:
        self._samples.append(sample)
        self.number += 1

    def __repr__(self) -> str:
        return f"<History {len(self._samples)} of {LENGTH} samples, {len(self._backends)} backends>"


def states_of(upstreams: Sequence[Upstream], total: MetricsCollector) -> str:
    """Of all backends, in the order of the configuration."""
    return "".join(
        _state(backend, total.backend(upstream.name, backend.name))
        for upstream in upstreams
        for backend in upstream.backends
    )


def _state(backend: Backend, stats: BackendStats) -> str:
    """What an operator says comes first, then what checks say, then what workers met."""
    health = backend.health
    if health.administrative is not Administrative.READY:
        return "m" if health.administrative is Administrative.MAINT else "r"
    if health.operational is Operational.DOWN:
        return "d"
    if stats.ejected:
        return "e"
    return "u" if health.operational is Operational.UP else "?"


def read(now: float, total: MetricsCollector) -> Reading:
    rates = [measure(total) for measure in _RATES.values()]
    return Reading(now, rates, [getattr(total, name).counts() for name in _DURATIONS])


def _growth(before: Reading, after: Reading) -> list[Number]:
    """Rates and percentiles. What an ended configuration takes along is no fall below zero."""
    seconds = after.at - before.at
    found: list[Number] = [
        round(max(0, now - then) / seconds, 2) for then, now in zip(before.rates, after.rates, strict=True)
    ]
    for then, now in zip(before.durations, after.durations, strict=True):
        counts = [max(0, grown) for grown in since(now, then)]
        found += [_milliseconds(counts, share) for share in _SHARES.values()]
    return found


def _milliseconds(counts: Sequence[int], share: float) -> Number:
    return round(percentile(counts, share) * 1000, 3) if any(counts) else None


def _waiting(backends: Sequence[BackendStats] | Any) -> int:
    """Whoever waits is counted by each backend of an upstream that could serve: once here."""
    longest: dict[str, int] = {}
    for stats in backends:
        longest[stats.upstream] = max(longest.get(stats.upstream, 0), stats.queue)
    return sum(longest.values())
