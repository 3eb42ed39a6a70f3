"""A View as what rich prints: a head, listeners and backends. Fits 80 columns, and says more where there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gproxy.ctl.rates import CLASSES, Line, View
from gproxy.ctl.words import brief, byte_rate, duration, limited, span, standing

WIDE: Final = 110  # columns from which on there is room for addresses
_FIXED: Final = 5  # rows: the heads of two tables, two empty ones, and the keys
_SILENT: Final = 2.0  # seconds after which a worker's sign of life is late


class Sort(NamedTuple):
    """`key` is what is pressed, `weigh` what comes first: the largest."""

    key: str
    name: str
    weigh: Callable[[Line], Any]


def _rate(line: Line, *names: str) -> float:
    return sum(line.rates[name] or 0.0 for name in names)


def _trouble(line: Line) -> tuple[bool, ...]:
    now = line.now
    return now["operational"] != "up", bool(now["ejected"]), now["administrative"] != "ready", now["queue"] > 0


SORTS: Final = (
    Sort("o", "order of the configuration", lambda _line: 0),
    Sort("u", "uses", lambda line: _rate(line, "connects", "reuses")),
    Sort("a", "active", lambda line: line.now["active"]),
    Sort("f", "failures", lambda line: _rate(line, "connect_failures", "retries")),
    Sort("t", "trouble", _trouble),
)


@dataclass(slots=True)
class Screen:
    """What to show it on, and how."""

    width: int = 80
    height: int | None = None  # rows; None where it has no end, and takes no keys
    sort: Sort = SORTS[0]
    page: int = 0
    trouble: str = ""  # why the numbers are old


def render(view: View | None, screen: Screen, address: str) -> RenderableType:
    trouble = [Text(screen.trouble, "bold red")] if screen.trouble else []
    if view is None:
        return Group(*trouble, Text(f"gproxy at {address}"))
    head = [*trouble, *_head(view, address), Text()]
    listeners, backends = view.listeners, sorted(view.backends, key=screen.sort.weigh, reverse=True)  # stable
    if screen.height is None:
        return Group(*head, _listeners(listeners, screen), Text(), _backends(backends, screen, view))
    left = max(2, screen.height - len(head) - _FIXED)
    listeners = listeners[: max(1, left // 2)]
    pages = _pages(backends, left - len(listeners))
    page = screen.page % len(pages)
    tables = (_listeners(listeners, screen), Text(), _backends(pages[page], screen, view))
    foot = ["q quits", f"sorted by {screen.sort.name} ({'/'.join(sort.key for sort in SORTS)})"]
    if len(pages) > 1:
        foot.append(f"page {page + 1} of {len(pages)} (space)")
    if hidden := len(view.listeners) - len(listeners):
        foot.append(f"listeners not shown: {hidden}")
    return Group(*head, *tables, Text(), _fields(*foot))


def _pages(lines: Sequence[Line], size: int) -> list[Sequence[Line]]:
    """At least one."""
    return [lines[first : first + size] for first in range(0, len(lines), size)] or [lines]


def _head(view: View, address: str) -> list[Text]:
    state, rates = view.state, view.rates
    first = _fields(
        f"gproxy {state['version']}", f"at {address}", f"process {state['master']}", f"for {span(state['uptime'])}",
        f"generation {state['generation']}", gap=", ",
    )  # fmt: skip
    sessions = _fields(
        f"sessions {limited(state['sessions'], state['max_connections'])}",
        f"accepted {_per(rates['connections_accepted'])}", f"rejected {_per(rates['rejected'])}",
        f"in {_bytes(rates['bytes_in'])}", f"out {_bytes(rates['bytes_out'])}",
    )  # fmt: skip
    requests = _fields(f"requests {_per(rates['requests'])}")
    for status in CLASSES:
        rate = rates[f"responses_{status}"]
        requests.append(f"   {status} {_per(rate)}", "bold red" if status == "5xx" and rate else "")
    lines = [first, sessions, requests, *_durations(view), _workers(state)]
    if state["ending"]:
        lines.append(Text("about to stop: nobody new is served", "bold yellow"))
    if state["reload"] and state["reload"]["outcome"] == "failed":
        why = state["reload"]["why"].splitlines()
        lines.append(Text(f"the last reload failed {span(state['reload']['ago'])} ago: {why[0]}", "red", no_wrap=True))
    return lines


def _durations(view: View) -> list[Text]:
    """All of them, so that the lines below stay where they are."""
    lines = []
    for kind, found in view.durations.items():
        values = [f"{name} {duration(seconds)}".ljust(11) for name, seconds in found.items()]
        lines.append(_fields(f"{kind} time".ljust(13), *values or "-", gap="  "))
    lines[0].append(f"  ({view.window:.0f} s)")
    return lines


def _workers(state: dict[str, Any]) -> Text:
    text = Text(f"workers {len(state['workers'])}", no_wrap=True, overflow="ellipsis")
    for worker in state["workers"]:
        late = worker["seen"] is None or worker["seen"] > _SILENT
        text.append(f"   {worker['slot']}: {worker['sessions']} sessions", "red" if late else "")
        if late:
            text.append(" not seen" if worker["seen"] is None else f" silent for {span(worker['seen'])}", "bold red")
    return text


def _listeners(lines: Sequence[Line], screen: Screen) -> Table:
    table = _table(
        screen, ("LISTENER", "ADDRESS"), ("SESSIONS", "REQ/s", *(f"{status}/s" for status in CLASSES), "REJ/s")
    )
    for line in lines:
        rates = [_number(line.rates[f"responses_{status}"]) for status in CLASSES]
        http = line.now["mode"] == "http"
        table.add_row(
            _word(line.name), _word(line.now["address"]), limited(line.now["sessions"], line.now["max_connections"]),
            *((_number(line.rates["requests"]), *rates) if http else "-----"), _number(line.rates["rejected"]),
        )  # fmt: skip
    return table


_BACKEND_RATES: Final = ("connects", "connect_failures", "retries")


def _backends(lines: Sequence[Line], screen: Screen, view: View) -> Table:
    wide = screen.width >= WIDE
    numbers = ("WT", "ACT", "IDLE", "QUE", "USE/s", "CONN/s", "FAIL/s", "RETR/s", "EJ")
    table = _table(screen, ("BACKEND", "ADDRESS", "STATE") if wide else ("BACKEND", "STATE"), numbers)
    workers = len(view.state["workers"])
    for line in lines:
        now = line.now
        state = _word(standing(now, workers), _colour(now))
        own = (_word(line.name), _word(now["address"]), state) if wide else (_word(line.name), state)
        counts = (now["weight"], limited(now["active"], now["max_connections"]), now["idle"], now["queue"])
        rates = (_uses(line), *(line.rates[name] for name in _BACKEND_RATES))
        table.add_row(
            *own, *map(str, counts), *map(_number, rates), str(now["counters"]["ejections"]),
        )  # fmt: skip
    return table


def _uses(line: Line) -> float | None:
    """Connections lent per second, new or idle ones: requests, or sessions of tcp."""
    return None if line.rates["connects"] is None else _rate(line, "connects", "reuses")


def _table(screen: Screen, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """Where there is too little room, words are cut, and numbers are not."""
    gap = 2 if screen.width >= WIDE else 1
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold reverse")
    for word in words:
        table.add_column(word)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    return table


def _word(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _fields(*words: str, gap: str = "   ") -> Text:
    return Text(gap.join(words), no_wrap=True, overflow="ellipsis")


def _colour(backend: dict[str, Any]) -> str:
    if backend["operational"] == "down":
        return "red"
    good = backend["operational"] == "up" and backend["administrative"] == "ready" and not backend["ejected"]
    return "green" if good else "yellow"


def _per(rate: float | None) -> str:
    return f"{_number(rate)}/s"


def _bytes(rate: float | None) -> str:
    return "- B/s" if rate is None else byte_rate(rate)


def _number(rate: float | None) -> str:
    return "-" if rate is None else brief(rate)
