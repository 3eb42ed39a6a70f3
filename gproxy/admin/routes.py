"""All that the API has: method and path, who answers, what with. Routing, the OpenAPI document and the page of the
manual go by this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gproxy.admin import changes, explaining, openapi, page, state
from gproxy.admin.answers import Answer
from gproxy.admin.desk import Desk, Request
from gproxy.admin.openapi import Entry
from gproxy.admin.schema import STRING, number

TEXT: Final = "text/plain"
_BACKEND: Final = "/v1/upstreams/{upstream}/backends/{backend}"

Handler = Callable[[Desk, Request], Answer]


@dataclass(frozen=True)
class Route(Entry):
    handler: Handler = field(kw_only=True)


def get_openapi(_desk: Desk, _request: Request) -> Answer:
    return openapi.answer(ROUTES)


ROUTES: Final = (
    Route("GET", "/metrics", "all counters, for Prometheus", None, handler=state.get_metrics, content_type=TEXT),
    Route("GET", "/v1/openapi.json", "this API, as an OpenAPI 3.1 document", {"type": "object"}, handler=get_openapi),
    Route("GET", "/v1/state", "workers, listeners, upstreams and backends", state.STATE, handler=state.get_state),
    Route(
        "GET", "/v1/health", "200 while this gproxy can serve, else 503; needs no token", state.HEALTH,
        handler=state.get_health, query={"upstream": STRING}, statuses=(200, 503), open_to_all=True,
    ),
    Route(
        "GET", "/v1/decisions", "the last choices of backends, of all workers", state.DECISIONS,
        handler=state.get_decisions, query={"last": number("integer", 1, 100)},
    ),
    Route(
        "GET", "/v1/processes", "what the steward and each worker hold: memory, open files, greenlets, watchers",
        state.PROCESSES, handler=state.get_processes,
    ),
    Route(
        "GET", "/v1/explain", "what became of the last requests and tcp sessions, and why", explaining.SCHEMA,
        handler=explaining.get_explain, query=explaining.QUERY,
    ),
    Route(
        "GET", "/v1/stream", "server-sent events: the last ten minutes, then what is new", None,
        handler=state.get_stream, content_type=state.EVENTS, streams=True,
    ),
    Route("GET", _BACKEND, "one backend", state.BACKEND, handler=state.get_backend),
    Route(
        "PUT", _BACKEND, "its administrative state, its weight, or both; a weight of null is the configured one",
        state.BACKEND, handler=changes.put_backend, body=changes.BACKEND,
    ),
    Route(
        "POST", f"{_BACKEND}/eject", "leave it out for so many seconds", changes.DONE,
        handler=changes.eject, body=changes.EJECT,
    ),
    Route(
        "POST", f"{_BACKEND}/readmit", "end its ejection", changes.DONE, handler=changes.readmit, body=changes.NOTHING
    ),
    Route(
        "POST", f"{_BACKEND}/empty-pool", "close its idle connections", changes.DONE,
        handler=changes.empty_pool, body=changes.NOTHING,
    ),
    Route("GET", "/v1/log", "the level of the log", state.LOG, handler=state.get_log),
    Route("PUT", "/v1/log", "another level, until the next reload", state.LOG, handler=changes.put_log, body=state.LOG),
    Route(
        "POST", "/v1/reload", "read the configuration anew, as SIGHUP does", changes.DONE,
        handler=changes.reload, body=changes.NOTHING, statuses=(202,),
    ),
)  # fmt: skip

# The dashboard is no part of the API. It has no data, so that it may ask who opens it for the token.
PAGE: Final = tuple(
    Route("GET", path, "the dashboard", None, handler=page.handler(name), content_type=kind, open_to_all=True)
    for path, name, kind in page.FILES
)
