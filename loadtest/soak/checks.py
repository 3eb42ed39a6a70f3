"""The invariants, each a function from what was seen to what is wrong with it: sentences, none where nothing is.

Nothing here waits or asks; program.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from soak.journal import Entries
from soak.settings import HTTP, LISTENERS, Settings
from soak.stage import Told, Traffic

ONCE = frozenset((b"POST", b"TCP"))  # executed at most once, whatever happens
SEEN_SECONDS = 2.0  # since a worker's last sign of life
LOST_BY_A_KILL = 200 + 100  # what the docs allow, and all that a worker may have had under way
REPEATED_SECONDS = 2.0  # of work may be in a push that is told twice
SHOWN = 5  # of many alike

Book = Mapping[bytes, tuple[bytes, str]]


def ledger(book: Book, entries: Entries, most: int) -> list[str]:
    """What backends executed is what clients asked for, and were told. `most`: executions of an idempotent request."""
    wrong = [f"executed, and asked by nobody: {mark.decode()}" for mark in entries.executed.keys() - book.keys()]
    for mark, (method, told) in book.items():
        count = entries.executed[mark]
        if objection := _objection(method, told, count, most):
            wrong.append(f"{method.decode()} {mark.decode()}, {told}, executed {count} times: {objection}")
        if count and entries.methods[mark] != method:
            wrong.append(f"{method.decode()} {mark.decode()} was executed as {entries.methods[mark].decode()}")
    return [*wrong, *entries.complaints]


def _objection(method: bytes, told: str, count: int, most: int) -> str:
    if told == Told.INCOMPLETE and count:
        return "not all of it was sent"
    if method in ONCE and count > 1:
        return "at most once"
    if count > most:
        return f"at most {most} times"
    if told == Told.GOOD and not count:
        return "it was answered"
    return ""


def calm_ledger(book: Book, entries: Entries) -> list[str]:
    """Where nothing goes wrong, everything is executed exactly once."""
    return [
        f"{method.decode()} {mark.decode()}, {told}, was executed {entries.executed[mark]} times, not once"
        for mark, (method, told) in book.items()
        if entries.executed[mark] != 1 or told != Told.GOOD
    ]


def at_rest(state: Any, settings: Settings) -> list[str]:
    """What still goes on, by /v1/state, while nobody is connected."""
    busy = [f"{state['sessions']} sessions"] if state["sessions"] else []
    if len(state["workers"]) != settings.workers:
        busy.append(f"{len(state['workers'])} workers, not {settings.workers}")
    for worker in state["workers"]:
        if worker["seen"] is None or worker["seen"] > SEEN_SECONDS:
            busy.append(f"worker {worker['slot']} was seen {worker['seen']} s ago")
    for upstream in state["upstreams"]:
        for backend in upstream["backends"]:
            most = settings.preconnect(upstream["name"]) * settings.workers + settings.pools_checks(upstream["name"])
            busy += [f"{upstream['name']}/{backend['name']}: {what}" for what in _busy(backend, most)]
    return busy


def _busy(backend: Any, most: int) -> Iterator[str]:
    if backend["operational"] == "down":
        yield "down"
    if backend["administrative"] != "ready" or backend["weight"] != backend["configured_weight"]:
        yield f"{backend['administrative']}, weight {backend['weight']}"
    for name in ("ejected", "active", "queue"):
        if backend[name]:
            yield f"{name} {backend[name]}"
    if backend["idle"] > most:  # fewer are normal, while those that have expired are replaced
        yield f"{backend['idle']} idle connections, not {most}"


class Metrics:
    """Growth of counters from one reading of /metrics to another."""

    def __init__(self, before: Mapping[str, float], after: Mapping[str, float]):
        self._before, self._after = before, after

    def of(self, name: str, **labels: str) -> int:
        """The sum of all series of that name with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return int(
            sum(
                value - self._before.get(series, 0)
                for series, value in self._after.items()
                if series.partition("{")[0] == f"gproxy_{name}_total" and all(each in series for each in wanted)
            )
        )

    def lent(self, upstreams: tuple[str, ...]) -> int:
        names = ("backend_connects", "backend_reuses")
        return sum(self.of(name, upstream=upstream) for name in names for upstream in upstreams)


def calm_counters(grown: Metrics, traffic: Mapping[str, Traffic], entries: Entries, settings: Settings) -> list[str]:
    """After a phase in which nothing failed, all three must have counted the same. `traffic` is by listener."""
    told: dict[str, tuple[int, int]] = {}
    for listener, upstream in LISTENERS.items():
        if upstream in HTTP:
            good = traffic[listener].good
            told[f"requests of {listener}"] = grown.of("http_requests", listener=listener), good.total()
            for each in ("1xx", "2xx", "3xx", "4xx", "5xx"):
                name = f"responses {each} of {listener}"
                told[name] = grown.of("http_responses", listener=listener, **{"class": each}), good[each]
    everything = sum_of(traffic.values())
    told["sessions accepted"] = grown.of("connections_accepted"), everything.connections
    told["sessions closed"] = grown.of("sessions_closed"), everything.connections
    told["bytes in"] = grown.of("transferred_bytes", direction="in"), everything.sent - everything.framing
    told["bytes out"] = grown.of("transferred_bytes", direction="out"), everything.received
    told["http connections lent"] = grown.lent(HTTP), entries.begun["http"]
    tcp = tuple(upstream for upstream in LISTENERS.values() if upstream not in HTTP)
    sessions = sum(traffic[listener].connections for listener, upstream in LISTENERS.items() if upstream in tcp)
    told["tcp connections lent"] = grown.lent(tcp), sessions
    if any(settings.preconnect(name) or settings.pools_checks(name) for name in HTTP):
        del told["http connections lent"]
    if any(settings.preconnect(name) for name in tcp):
        del told["tcp connections lent"]
    return [f"{what}: {counted} by gproxy, {seen} by us" for what, (counted, seen) in told.items() if counted != seen]


def sum_of(traffic: Any) -> Traffic:
    total = Traffic()
    for each in traffic:
        total.add(each)
    return total


LOG_ALARMS: tuple[str, ...] = ("Traceback", "a defect", "ended by a defect", "no sign of life", "was not ready within")


def log(text: str, expected: Callable[[str], bool] = lambda _line: False) -> list[str]:
    return [line for line in text.splitlines() if any(each in line for each in LOG_ALARMS) and not expected(line)]


def shortened(wrong: list[str]) -> list[str]:
    more = len(wrong) - SHOWN
    return wrong if more <= 0 else [*wrong[:SHOWN], f"and {more} more"]


@dataclass
class Totals:
    """Of a whole run, as clients and backends saw it."""

    asked: int = 0  # http requests of which at least a part was sent, or was to be
    begun: int = 0  # that arrived at backends, each try
    executed: int = 0  # http requests that were, once or more often
    connections: int = 0  # of clients, http and tcp
    worker_kills: int = 0
    steward_kills: int = 0

    def add(self, book: Book, entries: Entries, connections: int) -> None:
        self.asked += sum(method != b"TCP" for method, _ in book.values())
        self.begun += entries.begun["http"]
        self.executed += sum(method != b"TCP" for method in entries.methods.values())
        self.connections += connections


def totals(seen: Totals, told: Callable[[str], int], rate: float) -> list[str]:
    """What StatsD was told in a whole run. `told` gives the sum of all counters that match.

    A killed worker takes with it what it had not counted; a steward that is killed may repeat a push.
    """
    lost = seen.worker_kills * LOST_BY_A_KILL
    repeated = int(seen.steward_kills * rate * REPEATED_SECONDS)
    requests = told(r"requests\.(web|plain)")
    lent = told(r"upstream\.(app|even)\.backend\.[^.]+\.(connects|reuses)")
    accepted, closed = told("connections_accepted"), told(r"sessions_closed\..*")
    wrong = {
        f"{requests} requests, but {seen.executed} were executed": requests < seen.executed - lost,
        f"{requests} requests, but clients sent {seen.asked}": requests > seen.asked + repeated,
        f"{lent} connections lent, but {seen.begun} requests arrived": lent < seen.begun - lost,
        f"{accepted} sessions, but clients made {seen.connections} connections": accepted > seen.connections + repeated,
        f"{accepted} sessions begun, {closed} ended": not -repeated <= accepted - closed <= lost + repeated,
        f"{told(r'sessions_closed.IC')} sessions ended by a defect": told(r"sessions_closed\.IC") > 0,
        f"{told('log_dropped')} lines of logs were lost": told("log_dropped") > 0,
    }
    return [what for what, is_so in wrong.items() if is_so]
