"""What `gproxy top` shows: from looks at /v1/state to numbers per second. Pure.

    Look, Look, ... ─▶ view_of ─▶ View

A rate is of the last two looks. Durations are of all looks that are kept, some ten seconds: one second has too few of
them. Where gproxy was started anew between two looks, or there is one look alone, a rate is None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Document = dict[str, Any]
Rates = dict[str, float | None]  # counter's name -> per second

QUANTILES: Final = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")
DURATIONS: Final = ("response", "connect", "session")


class Look(NamedTuple):
    at: float  # monotonic seconds
    state: Document


@dataclass(frozen=True, slots=True)
class Line:
    """A listener or a backend: what the state says of it, and its counters' rates."""

    name: str
    now: Document
    rates: Rates


@dataclass(frozen=True, slots=True)
class View:
    state: Document
    seconds: float  # between the two looks; 0 where there is one alone
    rates: Rates  # of the process, and of requests and responses of all listeners
    durations: dict[str, dict[str, float]]  # by DURATIONS, then QUANTILES; empty where there were none
    window: float  # seconds that those are of
    listeners: list[Line]
    backends: list[Line]


def view_of(looks: Sequence[Look]) -> View:
    """The latest look last; those of another master than its are left out."""
    now = looks[-1]
    same = [look for look in looks if look.state["master"] == now.state["master"]]
    before = same[-2] if len(same) > 1 else None
    seconds = now.at - before.at if before else 0.0
    then = before.state if before else None
    listeners = _lines(listeners_of(now.state), listeners_of(then), seconds)
    return View(
        now.state,
        seconds,
        _rates(now.state, then, seconds) | _sums(listeners),
        {kind: quantiles(_since(same[0].state, now.state, kind)) for kind in DURATIONS},
        now.at - same[0].at,
        listeners,
        _lines(backends_of(now.state), backends_of(then), seconds),
    )


def listeners_of(state: Document | None) -> dict[str, Document]:
    return {listener["name"]: listener for listener in state["listeners"]} if state else {}


def backends_of(state: Document | None) -> dict[str, Document]:
    """By UPSTREAM/BACKEND."""
    upstreams = state["upstreams"] if state else []
    return {f"{upstream['name']}/{b['name']}": b for upstream in upstreams for b in upstream["backends"]}


def quantiles(counts: dict[float, int]) -> dict[str, float]:
    """Of durations and how often each was."""
    total, found = sum(counts.values()), {}
    for name, q in QUANTILES:
        rank = math.ceil(q * total - 1e-9)
        for seconds in sorted(counts):
            rank -= counts[seconds]
            if rank <= 0 and counts[seconds]:
                found[name] = seconds
                break
    return found


def _since(then: Document, now: Document, kind: str) -> dict[float, int]:
    counts = Counter({bucket["seconds"]: bucket["count"] for bucket in now["durations"][kind]})
    counts.subtract({bucket["seconds"]: bucket["count"] for bucket in then["durations"][kind]})
    return +counts


def _lines(now: dict[str, Document], then: dict[str, Document], seconds: float) -> list[Line]:
    return [Line(name, found, _rates(found, then.get(name), seconds)) for name, found in now.items()]


def _rates(now: Document, then: Document | None, seconds: float) -> Rates:
    """None, too, where a counter has begun anew."""
    found: Rates = dict.fromkeys(now["counters"])
    if then is not None and seconds > 0:
        for name, count in now["counters"].items():
            growth = count - then["counters"].get(name, count)
            found[name] = growth / seconds if growth >= 0 else None
    return found


def _sums(listeners: Sequence[Line]) -> Rates:
    names = ("requests", "rejected", *(f"responses_{status}" for status in CLASSES))
    return {name: _sum([line.rates[name] for line in listeners]) for name in names}


def _sum(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None
