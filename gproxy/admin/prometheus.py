"""Counters as the text that Prometheus scrapes, format 0.0.4.

    MetricsCollector ─▶ families ─▶ HELP, TYPE and a line per sample

Names end in a base unit, and counters in _total. What StatsD has in the path of a name stands in labels here: listener,
upstream, backend, code, class. A series is there from the first scrape on, with 0, so that a first event is a growth;
but of the termination codes only those that were seen, since most never are.

Histograms have an edge for each power of two, as the counts in memory do. The counts below each are exact. Their sums
are not: memory has no sums, and each duration counts as the middle of its bucket, an eighth of an octave wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gproxy.core.histogram import Histogram, approximate_sum, cumulative
from gproxy.core.termination import Ended
from gproxy.metrics import BackendStats, ListenerStats, MetricsCollector, Slot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Powers of two in seconds: 61 us to 64 s, where connections and responses are, and a few for long sessions.
_EDGES: Final = (*range(-14, 7), 8, 10)

_SUM_NOTE = "_sum is an approximation, to 6 %."

Labels = dict[str, str]


@dataclass(slots=True)
class Family:
    """All samples of one name. `kind` is counter or gauge, or histogram, whose samples have a suffix."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)  # (suffix, labels, value)

    def add(self, value: float, suffix: str = "", /, **labels: str) -> Family:
        self.samples.append((suffix, labels, value))
        return self

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {_escaped(self.help)}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self.samples:
            yield f"{self.name}{suffix}{_braced(labels)} {_number(value)}"


def exposition(total: MetricsCollector, more: list[Family] | None = None) -> str:
    """The sum of all processes as text; `more` is what counters don't know."""
    families = [*_of_process(total), *_of_listeners(total), *_of_backends(total), *_histograms(total), *(more or ())]
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _of_process(total: MetricsCollector) -> Iterator[Family]:
    view = total.view
    yield _counter("connections_accepted", "Client sessions begun.").add(view[Slot.CONNECTIONS_ACCEPTED])
    yield gauge("sessions", "Open client sessions.").add(view[Slot.ACTIVE])
    closed = _counter("sessions_closed", "Client sessions ended, by termination code; -- is a normal end.")
    for code, count in total.closed():
        if count or code == Ended.NORMAL:
            closed.add(count, code=code)
    yield closed
    transferred = _counter("transferred_bytes", "Bytes from clients to backends (in) and back (out).")
    yield transferred.add(view[Slot.BYTES_IN], direction="in").add(view[Slot.BYTES_OUT], direction="out")
    pool = _counter("pool_connections_discarded", "Connections not kept for others, or not any longer, by reason.")
    for reason, slot in (("dirty", Slot.POOL_DIRTY), ("stale", Slot.POOL_STALE), ("overflow", Slot.POOL_OVERFLOW)):
        pool.add(view[slot], reason=reason)
    yield pool
    yield _counter("log_lines_dropped", "Log lines that a stuck target did not take.").add(view[Slot.LOG_DROPPED])
    lag = gauge("event_loop_lag_seconds", "How late the event loop ran at worst since the last push or scrape.")
    yield lag.add(view[Slot.HUB_LAG] / 1e6)


_LISTENERS: Final = (
    ("gauge", "listener_sessions", "Open client sessions of a listener.", "active"),
    ("counter", "listener_rejected_connections", "Clients turned away for want of room.", "rejected"),
)
_HTTP: Final = (
    ("counter", "http_idle_clients_closed", "Idle http clients closed to make room for others.", "idle_closed"),
    ("counter", "http_requests", "Requests, those that were refused too.", "requests"),
)


def _of_listeners(total: MetricsCollector) -> Iterator[Family]:
    for table, members in ((_LISTENERS, total.listeners), (_HTTP, total.http_listeners)):
        for kind, name, text, attribute in table:
            family = _MAKE[kind](name, text)
            for stats in members:
                family.add(getattr(stats, attribute), listener=stats.listener)
            yield family
    yield _responses(total.http_listeners)


def _responses(listeners: list[ListenerStats]) -> Family:
    family = _counter("http_responses", "Final responses by class of status; 1xx are upgrades.")
    for stats in listeners:
        for status_class, count in stats.responses():
            family.add(count, **{"listener": stats.listener, "class": status_class})
    return family


_BACKENDS: Final = (
    ("counter", "backend_connects", "Dials that succeeded.", "connects"),
    ("counter", "backend_connect_failures", "Dials that failed.", "connect_failures"),
    ("counter", "backend_connect_timeouts", "Dials that failed because they timed out.", "timeouts"),
    ("counter", "backend_reuses", "Idle connections lent again.", "reuses"),
    ("counter", "backend_retries", "Further tries after this backend failed.", "retries"),
    ("counter", "backend_ejections", "Times that it was ejected, by any worker.", "ejections"),
    ("gauge", "backend_up", "1 while the checks find it up.", "healthy"),
    ("gauge", "backend_ejected", "1 while any worker has ejected it.", "ejected"),
    ("gauge", "backend_connections", "Connections lent to sessions.", "active"),
    ("gauge", "backend_idle_connections", "Idle connections in its pools.", "pool_idle"),
    ("gauge", "backend_queued_sessions", "Sessions that wait and could take a slot of it.", "queue"),
)


def _of_backends(total: MetricsCollector) -> Iterator[Family]:
    for kind, name, text, attribute in _BACKENDS:
        family = _MAKE[kind](name, text)
        for stats in total.backends:
            family.add(getattr(stats, attribute), **labels_of(stats))
        yield family


def labels_of(stats: BackendStats) -> Labels:
    return {"upstream": stats.upstream, "backend": stats.backend}


def _histograms(total: MetricsCollector) -> Iterator[Family]:
    yield _histogram("connect_duration_seconds", "Dials.", total.connect_time)
    text = "From a request's first byte to its response's head."
    yield _histogram("http_response_duration_seconds", text, total.response_time)
    yield _histogram("session_duration_seconds", "Client sessions, from accept to close.", total.session_time)


def _histogram(name: str, text: str, histogram: Histogram) -> Family:
    counts = histogram.counts()
    family = Family(f"gproxy_{name}", "histogram", f"{text} {_SUM_NOTE}")
    for edge, below in cumulative(counts, _EDGES):
        family.add(below, "_bucket", le=_number(edge))
    count = sum(counts)
    family.add(count, "_bucket", le="+Inf")
    return family.add(approximate_sum(counts), "_sum").add(count, "_count")


def _counter(name: str, text: str) -> Family:
    return Family(f"gproxy_{name}_total", "counter", text)


def gauge(name: str, text: str) -> Family:
    return Family(f"gproxy_{name}", "gauge", text)


_MAKE: Final[dict[str, Callable[[str, str], Family]]] = {"counter": _counter, "gauge": gauge}


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{_escaped(value, quoted=True)}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def _escaped(text: str, *, quoted: bool = False) -> str:
    """In a label's value quotes, too."""
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quoted else text


def _number(value: float) -> str:
    return repr(value) if isinstance(value, int) or value % 1 else str(int(value))
