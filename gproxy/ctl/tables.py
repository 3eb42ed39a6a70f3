"""The API's documents as tables for people. Pure: from documents to text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gproxy.ctl.words import limited, printable, span, standing

Document = dict[str, Any]

_NUMBERS: Final = re.compile(r"[0-9./-]+")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need; numbers stand to the right. What comes from outside prints as one line."""
    lines = [tuple(head), *(tuple(printable(str(cell)) for cell in row) for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [len(column) > 1 and all(_NUMBERS.fullmatch(cell) for cell in column[1:]) for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def overview(state: Document) -> str:
    """All that /v1/state has, but for what takes two looks to mean something."""
    parts = [_process(state), _workers(state), _listeners(state), _upstreams(state), _all_backends(state)]
    return "\n\n".join(parts)


def _process(state: Document) -> str:
    lines = [
        f"gproxy {state['version']}, process {state['master']}, for {span(state['uptime'])}: "
        f"generation {state['generation']}, log level {state['log_level']}",
        f"sessions: {limited(state['sessions'], state['max_connections'])}, "
        f"accepted since its start: {state['counters']['connections_accepted']}",
    ]
    if state["ending"]:
        lines.append("It is about to stop: sessions end, and nobody new is served.")
    if state["reload"]:
        lines.append(reload_line(state["reload"]))
    return "\n".join(lines)


def reload_line(reload: Document) -> str:
    why = f": {printable(reload['why'])}" if reload["why"] else ""
    words = {"running": "on its way for", "done": "done", "failed": "failed"}[reload["outcome"]]
    ago = span(reload["ago"]) if reload["outcome"] == "running" else f"{span(reload['ago'])} ago"
    return f"last reload: {words} {ago}{why}"


def _workers(state: Document) -> str:
    rows = [(w["slot"], "never" if w["seen"] is None else f"{span(w['seen'])} ago", w["sessions"])
            for w in state["workers"]]  # fmt: skip
    return table(("WORKER", "SEEN", "SESSIONS"), rows)


def _listeners(state: Document) -> str:
    return table(
        ("LISTENER", "ADDRESS", "MODE", "UPSTREAMS", "SESSIONS", "REQUESTS", "REJECTED"),
        ((x["name"], x["address"], x["mode"], ",".join(x["upstreams"]), limited(x["sessions"], x["max_connections"]),
          x["counters"]["requests"] if x["mode"] == "http" else "-", x["counters"]["rejected"])
         for x in state["listeners"]),
    )  # fmt: skip


def _upstreams(state: Document) -> str:
    rows = [(u["name"], u["balance"], "yes" if u["can_serve"] else "NO") for u in state["upstreams"]]
    return table(("UPSTREAM", "BALANCE", "SERVES"), rows)


def _all_backends(state: Document) -> str:
    found = ((upstream["name"], backend) for upstream in state["upstreams"] for backend in upstream["backends"])
    return backends(found, len(state["workers"]))


def backends(found: Iterable[tuple[str, Document]], workers: int = 0) -> str:
    """Pairs of upstream and backend; of how many workers, if that is known."""
    head = ("BACKEND", "ADDRESS", "STATE", "WEIGHT", "ACTIVE", "IDLE", "QUEUE", "CONNECTS", "FAILED", "RETRIES")
    return table(head, (_backend(upstream, backend, workers) for upstream, backend in found))


def _backend(upstream: str, b: Document, workers: int) -> tuple[object, ...]:
    counted = b["counters"]
    state = standing(b, workers) + (" (backup)" if b["backup"] else "")
    own = (f"{upstream}/{b['name']}", b["address"], state, b["weight"])
    used = (limited(b["active"], b["max_connections"]), b["idle"], b["queue"])
    return *own, *used, counted["connects"], counted["connect_failures"], counted["retries"]


def backend_line(backend: Document) -> str:
    return f"{standing(backend)}; connections in use: {backend['active']}"


def decisions(document: Document) -> str:
    head = ("AGO", "WORKER", "CLIENT", "LISTENER", "BACKEND", "LEFT OUT")
    return "\n".join([table(head, map(_decision, document["decisions"])), *_silent(document)])


def processes(document: Document) -> str:
    names = ("process", "pid", "sessions", "resident_bytes", "open_files", "greenlets", "watchers")
    head = ("PROCESS", "PID", "SESSIONS", "BYTES", "FILES", "GREENLETS", "WATCHERS")
    rows = (["-" if each[name] is None else each[name] for name in names] for each in document["processes"])
    return "\n".join([table(head, rows), *_silent(document)])


def _silent(document: Document) -> list[str]:
    """Of the workers that were asked."""
    silent = document["workers"] - document["answered"]
    return [f"Of {document['workers']} workers {silent} did not answer in time."] if silent > 0 else []


def _decision(decision: Document) -> tuple[object, ...]:
    backend = decision["backend"] or ("(waits)" if decision["queued"] else "(none)")
    left_out = ", ".join(f"{each['backend']}: {each['reason']}" for each in decision["excluded"])
    return (
        span(decision["ago"]), decision["worker"], decision["client"], decision["listener"],
        f"{decision['upstream']}/{backend}", left_out or "-",
    )  # fmt: skip
