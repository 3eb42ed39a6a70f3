"""A worker's decisions as documents. In the worker, which alone knows them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gproxy.admin.schema import BOOLEAN, COUNT, SECONDS, STRING, array, obj, or_null
from gproxy.router import Decision

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


def decisions_document(decisions: Iterable[Decision], worker: int, now: float) -> list[dict[str, Any]]:
    """The first ones, as far as there is room."""
    found: list[dict[str, Any]] = []
    room = _ROOM
    for decision in decisions:
        entry = _entry(decision, worker, now)
        room -= len(json.dumps(entry)) + 2
        if room < 0:
            break
        found.append(entry)
    return found


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
