"""A worker's decisions as documents. In the worker, which alone knows them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gproxy.admin.schema import BOOLEAN, COUNT, SECONDS, STRING, array, obj, or_null
from gproxy.router import Decision
from gproxy.stories import Trace

MOST = 100
_ROOM = 48 * 1024  # bytes of one worker's answer: it must fit a message between processes

SCHEMA = obj(
    {
        "worker": COUNT,
        "ago": SECONDS,
        "upstream": STRING,
        "listener": STRING,
        "client": STRING,
        "key": STRING,
        "sticky": STRING,
        "candidates": array(STRING),
        "excluded": array(obj({"backend": STRING, "reason": STRING})),
        "backend": or_null(STRING),
        "queued": BOOLEAN,
    }
)


def decisions_document(traces: Iterable[Trace], last: int, worker: int, now: float) -> list[dict[str, Any]]:
    """The last ones that the traces tell of, the latest first, as far as there is room."""
    decisions = sorted((each.decision for trace in traces for each in trace.tries), key=_at, reverse=True)
    found: list[dict[str, Any]] = []
    room = _ROOM
    for decision in decisions[:last]:
        entry = _entry(decision, worker, now)
        room -= len(json.dumps(entry)) + 2
        if room < 0:
            break
        found.append(entry)
    return found


def _at(decision: Decision) -> float:
    return decision.at


def _entry(decision: Decision, worker: int, now: float) -> dict[str, Any]:
    request = decision.request
    return {
        "worker": worker,
        "ago": round(max(0.0, now - decision.at), 3),
        "upstream": decision.upstream,
        "listener": request.listener,
        "client": request.client,
        "key": request.key,
        "sticky": request.sticky,
        "candidates": [backend.name for backend in decision.candidates],
        "excluded": [{"backend": name, "reason": reason} for name, reason in decision.excluded],
        "backend": None if decision.backend is None else decision.backend.name,
        "queued": decision.queued,
    }
