"""What is: the documents of reads, each with its schema beside it."""

from __future__ import annotations

import logging
from typing import Any, Final

from gproxy import __version__
from gproxy.admin import decisions
from gproxy.admin.answers import Answer, document, whole_number
from gproxy.admin.desk import OUTCOMES, Desk, Request
from gproxy.admin.history import COLUMNS, LENGTH, PERIOD, STATES
from gproxy.admin.processes import PROCESS, process_document
from gproxy.admin.prometheus import CONTENT_TYPE, Family, exposition, gauge
from gproxy.admin.schema import BOOLEAN, COUNT, SECONDS, STRING, array, obj, one_of, or_null
from gproxy.core.health import Administrative, Operational
from gproxy.core.histogram import Histogram, middles
from gproxy.core.settings import ListenerSettings, Mode
from gproxy.metrics import COUNTERS, BackendStats, ListenerStats, MetricsCollector
from gproxy.upstream import Backend, Upstream

LEVELS: Final = ("debug", "info", "warning", "error")
EVENTS: Final = "text/event-stream"

Place = tuple[int, int]  # in the history, in the flips

BACKEND: Final = obj(
    {
        "name": STRING,
        "address": STRING,
        "operational": one_of(*(state.value for state in Operational)),
        "administrative": one_of(*(state.value for state in Administrative)),
        "weight": COUNT,
        "configured_weight": COUNT,
        "backup": BOOLEAN,
        "max_connections": or_null(COUNT),
        "ejected": COUNT,
        "active": COUNT,
        "idle": COUNT,
        "queue": COUNT,
        "counters": obj(dict.fromkeys(BackendStats.COUNTERS, COUNT)),
    }
)
_WORKER: Final = obj({"slot": COUNT, "seen": or_null(SECONDS), "sessions": COUNT})
_LISTENER: Final = obj(
    {
        "name": STRING,
        "address": STRING,
        "mode": one_of(*(mode.value for mode in Mode)),
        "upstreams": array(STRING),
        "sessions": COUNT,
        "max_connections": COUNT,
        "counters": obj(dict.fromkeys(ListenerStats.COUNTERS, COUNT)),
    }
)
_UPSTREAM: Final = obj({"name": STRING, "balance": STRING, "can_serve": BOOLEAN, "backends": array(BACKEND)})
_RELOAD: Final = obj({"number": COUNT, "outcome": one_of(*OUTCOMES), "why": or_null(STRING), "ago": SECONDS})
_BUCKETS: Final = array(obj({"seconds": SECONDS, "count": COUNT}))
DURATIONS: Final = ("response", "connect", "session")
STATE: Final = obj(
    {
        "version": STRING,
        "master": COUNT,
        "uptime": SECONDS,
        "generation": COUNT,
        "reload": or_null(_RELOAD),
        "ending": BOOLEAN,
        "log_level": one_of(*LEVELS),
        "sessions": COUNT,
        "max_connections": or_null(COUNT),
        "counters": obj({name: COUNT for name, _ in COUNTERS}),
        "durations": obj(dict.fromkeys(DURATIONS, _BUCKETS)),
        "workers": array(_WORKER),
        "listeners": array(_LISTENER),
        "upstreams": array(_UPSTREAM),
    }
)
HEALTH: Final = obj({"status": one_of("ok", "unavailable")})
DECISIONS: Final = obj({"decisions": array(decisions.SCHEMA), "workers": COUNT, "answered": COUNT})
PROCESSES: Final = obj({"processes": array(PROCESS), "workers": COUNT, "answered": COUNT})
LOG: Final = obj({"level": one_of(*LEVELS)})


def get_state(desk: Desk, _request: Request) -> Answer:
    return document(state_document(desk))


def state_document(desk: Desk) -> dict[str, Any]:
    total = desk.totals.total()
    return {
        "version": __version__,
        "master": desk.instance.master,
        "uptime": round(desk.clock() - desk.instance.began, 3),
        "generation": desk.instance.generation,
        "reload": _reload(desk),
        "ending": desk.ending,
        "log_level": log_level(),
        "sessions": total.active,
        "max_connections": desk.config.max_connections,
        "counters": {name: total.view[slot] for name, slot in COUNTERS},
        "durations": {name: _buckets(getattr(total, f"{name}_time")) for name in DURATIONS},
        "workers": [_worker(desk, slot) for slot in range(desk.config.workers)],
        "listeners": [_listener(desk, total, listener) for listener in desk.config.listeners],
        "upstreams": [_upstream(desk, total, upstream) for upstream in desk.upstreams.values()],
    }


def get_stream(desk: Desk, _request: Request) -> Answer:
    return Answer(200, b"", EVENTS, stream=desk.streams.open())


def news_document(desk: Desk, place: Place | None) -> tuple[Place, dict[str, Any]]:
    """What a stream tells next: samples and flips beyond a place, the place after them, and the state."""
    history, flips = desk.history, desk.flips
    samples_before, flips_before = place or (0, 0)
    news = {
        "now": round(desk.clock(), 3),
        "samples": history.after(samples_before),
        "flips": flips.after(flips_before),
        "state": state_document(desk),
    }
    if place is None:
        news |= {"period": PERIOD, "length": LENGTH, "columns": COLUMNS, "states": STATES, "strips": history.strips()}
    return (history.number, flips.number), news


def get_backend(desk: Desk, request: Request) -> Answer:
    backend = desk.backend(request.names["upstream"], request.names["backend"])
    return document(backend_document(desk, desk.totals.total(), backend))


def get_health(desk: Desk, request: Request) -> Answer:
    """Whether this gproxy serves: the upstream that is asked for, or else any of those that listeners name."""
    if "upstream" in request.query:
        asked = [desk.upstream(request.query["upstream"])]
    else:
        asked = [desk.upstreams[listener.upstream] for listener in desk.config.listeners]
    good = not desk.ending and any(can_serve(desk, upstream) for upstream in asked)
    return document({"status": "ok" if good else "unavailable"}, 200 if good else 503)


def get_decisions(desk: Desk, request: Request) -> Answer:
    """Of all workers that answer in time, the latest first."""
    last = whole_number("last", request.query.get("last", "20"), 1, decisions.MOST)
    answers = desk.questions.ask(desk.config.workers, ask="decisions", last=last)
    found = sorted((entry for answer in answers for entry in answer), key=_ago)[:last]
    return document({"decisions": found, "workers": desk.config.workers, "answered": len(answers)})


def get_processes(desk: Desk, _request: Request) -> Answer:
    """The steward, and the workers that answer in time."""
    answers = desk.questions.ask(desk.config.workers, ask="process")
    found = [process_document("steward", 0), *(entry for answer in answers for entry in answer)]
    return document(
        {
            "processes": sorted(found, key=lambda entry: (len(entry["process"]), entry["process"])),
            "workers": desk.config.workers,
            "answered": len(answers),
        }
    )


def get_log(_desk: Desk, _request: Request) -> Answer:
    return document({"level": log_level()})


def get_metrics(desk: Desk, _request: Request) -> Answer:
    text = exposition(desk.totals.total(), list(more_families(desk)))
    if desk.config.statsd is None:
        desk.shared.clear_lag()  # no reporter does
    return Answer(200, text.encode(), CONTENT_TYPE)


def can_serve(desk: Desk, upstream: Upstream) -> bool:
    """As far as checks, operators and ejections of all workers say."""
    now = desk.clock()
    return any(b.exclusion(now) is None and _ejected(desk, b) < desk.config.workers for b in upstream.backends)


def backend_document(desk: Desk, total: MetricsCollector, backend: Backend) -> dict[str, Any]:
    stats = total.backend(backend.upstream.name, backend.name)
    return {
        "name": backend.name,
        "address": str(backend.settings.address),
        "operational": backend.health.operational.value,
        "administrative": backend.health.administrative.value,
        "weight": backend.weight,
        "configured_weight": backend.settings.weight,
        "backup": backend.settings.backup,
        "max_connections": backend.settings.max_connections,
        "ejected": _ejected(desk, backend),
        "active": stats.active,
        "idle": stats.pool_idle,
        "queue": stats.queue,
        "counters": {name: getattr(stats, name) for name in BackendStats.COUNTERS},
    }


def log_level() -> str:
    return logging.getLevelName(logging.getLogger("gproxy").level).lower()


def _reload(desk: Desk) -> dict[str, Any] | None:
    if desk.reload is None:
        return None
    number, outcome, why, at = desk.reload
    return {"number": number, "outcome": outcome, "why": why or None, "ago": round(max(0.0, desk.clock() - at), 3)}


def _buckets(histogram: Histogram) -> list[dict[str, float]]:
    """Those that are not empty."""
    return [{"seconds": float(f"{seconds:.4g}"), "count": count} for seconds, count in middles(histogram.counts())]


def _ejected(desk: Desk, backend: Backend) -> int:
    """By how many workers."""
    rows = (desk.shared.row(slot) for slot in range(desk.config.workers))
    return sum(row.backend(backend.upstream.name, backend.name).ejected for row in rows)


def _worker(desk: Desk, slot: int) -> dict[str, Any]:
    seen = desk.shared.seen_alive(slot)
    ago = round(max(0.0, desk.clock() - seen), 3) if seen else None
    return {"slot": slot, "seen": ago, "sessions": desk.shared.row(slot).active}


def _listener(desk: Desk, total: MetricsCollector, settings: ListenerSettings) -> dict[str, Any]:
    stats = total.listener(settings.name)
    return {
        "name": settings.name,
        "address": desk.instance.addresses[settings.name],
        "mode": settings.mode.value,
        "upstreams": list(settings.targets),
        "sessions": stats.active,
        "max_connections": settings.max_connections,
        "counters": {name: getattr(stats, name) for name in ListenerStats.COUNTERS},
    }


def _upstream(desk: Desk, total: MetricsCollector, upstream: Upstream) -> dict[str, Any]:
    return {
        "name": upstream.name,
        "balance": upstream.settings.balance.kind,
        "can_serve": can_serve(desk, upstream),
        "backends": [backend_document(desk, total, backend) for backend in upstream.backends],
    }


def more_families(desk: Desk) -> list[Family]:
    """What counters don't know."""
    info = gauge("info", "1, with the version.").add(1, version=__version__)
    uptime = gauge("uptime_seconds", "Since the master process began.").add(desk.clock() - desk.instance.began)
    generation = gauge("generation", "How often a configuration was started.").add(desk.instance.generation)
    workers = gauge("workers", "Processes that serve, by configuration.").add(desk.config.workers)
    ready = gauge("backend_ready", "1 while no operator has it drained or in maintenance.")
    weight = gauge("backend_weight", "Its share of the load beside the others.")
    for upstream in desk.upstreams.values():
        for backend in upstream.backends:
            labels = {"upstream": upstream.name, "backend": backend.name}
            ready.add(int(backend.health.administrative is Administrative.READY), **labels)
            weight.add(backend.weight, **labels)
    return [info, uptime, generation, workers, ready, weight]


def _ago(entry: dict[str, Any]) -> float:
    return float(entry["ago"])
