"""What became of sessions and exchanges, as documents. In the worker, which alone knows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from gproxy.admin.schema import BOOLEAN, COUNT, SECONDS, STRING, array, number, obj, one_of, or_null
from gproxy.core.balance import HashRing
from gproxy.core.scoring import Choice, scoring
from gproxy.core.settings import Mode, Reuse
from gproxy.core.termination import explain
from gproxy.router import Decision
from gproxy.stories import Trace, Try
from gproxy.upstream import Backend, Upstream

MOST = 100
_ROOM = 48 * 1024  # bytes of one worker's answer: it must fit a message between processes
_LONGEST = 1000  # characters of a target, or of what a failure says

_SCORE = obj({"backend": STRING, "score": number("number", 0, 1e12)})
_CONNECTION = obj({"kind": one_of("idle", "ahead", "fresh"), "why": STRING, "uses": COUNT, "idle": or_null(SECONDS)})
_TRY = obj(
    {
        "at": SECONDS,
        "candidates": array(STRING),
        "excluded": array(obj({"backend": STRING, "reason": STRING})),
        "backend": or_null(STRING),
        "queued": BOOLEAN,
        "why": STRING,
        "scores": array(_SCORE),
        "connection": or_null(_CONNECTION),
        "failure": or_null(STRING),
    }
)
SCHEMA = obj(
    {
        "worker": COUNT,
        "mode": one_of(*(mode.value for mode in Mode)),
        "began": SECONDS,
        "ended": or_null(SECONDS),
        "client": STRING,
        "listener": STRING,
        "request_id": or_null(STRING),
        "method": or_null(STRING),
        "target": or_null(STRING),
        "version": or_null(STRING),
        "upstream": or_null(STRING),
        "balance": or_null(STRING),
        "backend": or_null(STRING),
        "tries": array(_TRY),
        "timers": obj(dict.fromkeys(("read", "wait", "connect", "response", "total"), or_null(SECONDS))),
        "status": or_null(COUNT),
        "told": or_null(STRING),
        "bytes_in": COUNT,
        "bytes_out": COUNT,
        "code": or_null(STRING),
        "ending": or_null(STRING),
    }
)


class Wanted(NamedTuple):
    """Which stories are asked for."""

    last: int = MOST
    request_id: str = ""
    client: str = ""
    failed: bool = False

    def takes(self, trace: Trace) -> bool:
        if self.request_id and trace.request_id.decode("latin-1") != self.request_id:
            return False
        return (not self.client or trace.is_of(self.client)) and (not self.failed or trace.went_wrong)


def stories_document(traces: Iterable[Trace], wanted: Wanted, worker: int, now: float) -> dict[str, Any]:
    """The first ones of those that are wanted, as far as there is room; and how many there was none for."""
    asked = [trace for trace in traces if wanted.takes(trace)][: wanted.last]
    found: list[dict[str, Any]] = []
    room = _ROOM
    for trace in asked:
        entry = story(trace, worker, now)
        room -= len(json.dumps(entry)) + 2
        if room < 0:
            break
        found.append(entry)
    return {"stories": found, "left_off": len(asked) - len(found)}


def story(trace: Trace, worker: int, now: float) -> dict[str, Any]:
    course = trace.course
    upstream = course.upstream if course is not None else None
    http = trace.mode is Mode.HTTP
    return {
        "worker": worker,
        "mode": trace.mode.value,
        "began": _seconds(now - trace.began),
        "ended": None if trace.ended is None else _seconds(now - trace.ended),
        "client": trace.client,
        "listener": trace.listener,
        "request_id": _text(trace.request_id),
        "method": _text(trace.method),
        "target": _text(trace.target),
        "version": _text(trace.version),
        "upstream": None if upstream is None else upstream.name,
        "balance": None if upstream is None else _balance(upstream),
        "backend": None if course is None or course.backend is None else course.backend.name,
        "tries": [] if upstream is None else [_try(upstream, each, trace.began) for each in trace.tries],
        "timers": _timers(trace, now),
        "status": trace.status if http else None,
        "told": trace.told[:_LONGEST] or None,
        "bytes_in": trace.bytes_in,
        "bytes_out": trace.bytes_out,
        "code": trace.code,
        "ending": None if trace.code is None else explain(trace.code),
    }


def _try(upstream: Upstream, made: Try, began: float) -> dict[str, Any]:
    decision, chosen = made.decision, made.decision.backend
    why, scores = (
        ("", ()) if chosen is None else scoring(upstream.settings.balance, _choice(upstream, decision, chosen))
    )
    return {
        "at": _seconds(decision.at - began),
        "candidates": [backend.name for backend in decision.candidates],
        "excluded": [{"backend": name, "reason": reason} for name, reason in decision.excluded],
        "backend": None if chosen is None else chosen.name,
        "queued": decision.queued,
        "why": why[:_LONGEST],
        "scores": [{"backend": name, "score": score} for name, score in scores],
        "connection": _connection(upstream, made) if made.uses else None,
        "failure": made.failure[:_LONGEST] or None,
    }


def _choice(upstream: Upstream, decision: Decision, chosen: Backend) -> Choice:
    owner, policy, request = "", upstream.policy, decision.request
    if isinstance(policy, HashRing):
        owner = policy.first_owner(request.key if upstream.settings.balance.kind == "hash" else request.client)
    return Choice([b.name for b in decision.candidates], chosen.name, request, decision.scored, owner)


def _connection(upstream: Upstream, made: Try) -> dict[str, Any]:
    if made.idle is not None:
        kind, why = ("idle", "it was used last") if made.uses > 1 else ("ahead", "it was dialled ahead")
    else:
        kind, why = "fresh", _why_fresh(upstream, made)
    return {"kind": kind, "why": why, "uses": made.uses, "idle": None if made.idle is None else _seconds(made.idle)}


def _why_fresh(upstream: Upstream, made: Try) -> str:
    pool = upstream.settings.pool
    if made.missed is not None:
        return made.missed.value
    if pool.reuse is Reuse.NEVER and not pool.preconnect:
        return "pool.reuse is never"
    return "none was idle"


def _timers(trace: Trace, now: float) -> dict[str, float | None]:
    """In seconds. Of what is under way, the total is that so far."""
    tw, tc, tresp = trace.timers
    read = trace.read_at - trace.began if trace.read_at is not None and trace.method else None
    total = (now if trace.ended is None else trace.ended) - trace.began
    named: Sequence[tuple[str, float | None]] = (
        ("read", read), ("wait", tw), ("connect", tc), ("response", tresp), ("total", total)
    )  # fmt: skip
    return {name: None if seconds is None else _seconds(seconds) for name, seconds in named}


def _balance(upstream: Upstream) -> str:
    settings = upstream.settings.balance
    return f"{settings.kind}: {settings.argument}" if settings.argument else settings.kind


def _text(data: bytes) -> str | None:
    return data.decode("latin-1")[:_LONGEST] or None


def _seconds(seconds: float) -> float:
    return round(max(0.0, seconds), 6)
