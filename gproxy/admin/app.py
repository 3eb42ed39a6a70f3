"""The API as a WSGI application.

path and method ─▶ Route ─▶ may it? (guard.py) ─▶ body and query ─▶ handler ─▶ Answer
      │ 404, 405             │ 401 403 421            │ 400 408 413 415 406
      ▼                      ▼                        ▼
ApiError ─▶ {"error": "..."}
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from gevent import Timeout

from gproxy.admin import guard
from gproxy.admin.answers import Answer, ApiError, Streamed
from gproxy.admin.desk import Desk, Request
from gproxy.admin.routes import PAGE, ROUTES, Route
from gproxy.admin.schema import problem_with
from gproxy.core.settings import AdminSettings

log = logging.getLogger("gproxy.admin")

MAX_BODY = 64 * 1024  # bytes
MAX_QUERY = 1024
BODY_TIMEOUT = 5.0  # seconds for a body to come

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

_ALWAYS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def names_in(path: str, route: Route) -> Mapping[str, str] | None:
    """What a path has where the route's has {names}, None where it is not the route's.

    It is as it was sent: a name may have slashes, as %2F.
    """
    parts, segments = route.path.split("/"), [unquote(segment) for segment in path.split("/")]
    if len(parts) != len(segments):
        return None
    names = {part[1:-1]: segment for part, segment in zip(parts, segments, strict=True) if part[:1] == "{"}
    literal = all(part[:1] == "{" or part == segment for part, segment in zip(parts, segments, strict=True))
    return names if literal and all(names.values()) else None


class App:
    """For one address: `port` is where it really listens, 0 for a unix socket."""

    def __init__(self, settings: AdminSettings, port: int, desk: Desk):
        self._settings = settings
        self._port = port
        self._desk = desk

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except ApiError as error:
            answer = error.answer()
        except Exception:
            log.exception("a defect of the admin API's, at %s %s", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            answer = ApiError(500, "a defect of gproxy's; its log says more").answer()
        fields = {"Content-Type": answer.content_type, **_ALWAYS, **dict(answer.headers)}
        if answer.stream is not None:
            return _streamed(answer, answer.stream, fields, environ, start_response)
        if _is_known(fields.get("ETag"), environ):
            start_response("304 Not Modified", [*fields.items()])
            return []
        start_response(answer.status_line, [*fields.items(), ("Content-Length", str(len(answer.body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: Environ) -> Answer:
        guard.check_host(self._settings.bind, self._port, environ.get("HTTP_HOST", ""))
        route, names = find(environ["REQUEST_METHOD"], environ["gproxy.path"])
        writes = route.body is not None
        guard.check(self._settings, self._port, environ, open_to_all=route.open_to_all, own_site=route.own_site)
        _check_accept(route, environ.get("HTTP_ACCEPT", "*/*"))
        body = _body(route, environ) if writes else None
        return route.handler(self._desk, Request(names, _query(route, environ), body, environ["gproxy.peer"]))


def _streamed(
    answer: Answer, stream: Streamed, fields: Mapping[str, str], environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    """The server closes the stream when its client has gone, or has taken nothing for too long."""
    start_response(answer.status_line, [*fields.items()])
    if environ["REQUEST_METHOD"] == "HEAD":
        stream.close()
        return []
    stream.patience = environ["gproxy.patience"]
    return stream


def _is_known(tag: str | None, environ: Environ) -> bool:
    """Whether the client has what it asks for (RFC 9110, section 13.1.2)."""
    known = environ.get("HTTP_IF_NONE_MATCH", "")
    return tag is not None and tag in (each.strip().removeprefix("W/") for each in known.split(","))


def find(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """Who answers, and the names in the path. ApiError 404 or 405."""
    matches = [(route, names) for route in (*ROUTES, *PAGE) if (names := names_in(path, route)) is not None]
    if not matches:
        raise ApiError(404, f"there is nothing at {path[:200]!r}; /v1/openapi.json lists what there is")
    for route, names in matches:
        if method == route.method or (method == "HEAD" and route.method == "GET"):
            return route, names
    methods = {route.method for route, _ in matches}
    allowed = ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
    raise ApiError(405, f"{method[:20]!r} is not for this; {allowed} is", (("Allow", allowed),))


def _check_accept(route: Route, accept: str) -> None:
    kinds = {route.content_type, route.content_type.partition("/")[0] + "/*", "*/*"}
    wanted = [part.replace(" ", "").lower() for part in accept.split(",")]
    if not any(w.partition(";")[0] in kinds and not re.search(r";q=0(\.0*)?$", w) for w in wanted):
        raise ApiError(406, f"this is {route.content_type}")


def _query(route: Route, environ: Environ) -> Mapping[str, str]:
    text: str = environ.get("QUERY_STRING", "")
    if len(text) > MAX_QUERY:
        raise ApiError(400, f"the query is longer than {MAX_QUERY} bytes")
    pairs = parse_qsl(text, keep_blank_values=True)
    for name, _ in pairs:
        if name not in route.query:
            raise ApiError(400, f"there is no parameter {name[:40]!r}; there are: {', '.join(route.query) or 'none'}")
    if len(dict(pairs)) < len(pairs):
        raise ApiError(400, "a parameter is given twice")
    return dict(pairs)


def _body(route: Route, environ: Environ) -> Any:
    guard.check_type(environ)
    data = _read(environ)
    try:
        body = json.loads(data, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not good JSON: {error}") from None
    assert route.body is not None
    if problem := problem_with(body, route.body):
        raise ApiError(400, problem)
    return body


def _read(environ: Environ) -> bytes:
    if int(environ.get("CONTENT_LENGTH") or 0) > MAX_BODY:
        raise ApiError(413, f"a body has at most {MAX_BODY} bytes", (("Connection", "close"),))
    late = ApiError(408, f"the body did not come within {BODY_TIMEOUT:g} s", (("Connection", "close"),))
    try:
        with Timeout(BODY_TIMEOUT, late):
            data: bytes = environ["wsgi.input"].read(MAX_BODY + 1)
    except (OSError, ValueError):  # gevent's word for a chunk without a size
        raise ApiError(400, "the body is broken off, or framed wrongly", (("Connection", "close"),)) from None
    if len(data) > MAX_BODY:
        raise ApiError(413, f"a body has at most {MAX_BODY} bytes", (("Connection", "close"),))
    return data


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a member is given twice")
    return dict(pairs)
