"""The table of routes as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from gproxy import __version__
from gproxy.admin.answers import JSON, Answer, document
from gproxy.admin.schema import STRING, Schema, obj

ERROR: Final = obj({"error": STRING})


@dataclass(frozen=True)
class Entry:
    """What a route says of itself. `body` is the schema of what it is sent, `answer` of what it answers."""

    method: str
    path: str  # with {names}
    summary: str
    answer: Schema | None
    body: Schema | None = None
    query: dict[str, Schema] = field(default_factory=dict)
    statuses: tuple[int, ...] = (200,)  # all with the same kind of answer
    content_type: str = JSON
    open_to_all: bool = False  # without the token
    streams: bool = False  # it goes on and on

    @property
    def names(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def own_site(self) -> bool:
        """Whether pages of other sites may not ask this: it changes something, or takes one of few places."""
        return self.body is not None or self.streams

    @property
    def error_statuses(self) -> Iterator[int]:
        yield 421
        if not self.open_to_all:
            yield 401
        if self.names or self.query:
            yield 404
        if self.query or self.body is not None:
            yield 400
        if self.own_site:
            yield 403
        if self.streams:
            yield 503
        if self.body is not None:
            yield from (408, 413, 415)
        yield 406


def answer(entries: Sequence[Entry]) -> Answer:
    return document(openapi(entries))


def openapi(entries: Sequence[Entry]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for entry in entries:
        paths.setdefault(entry.path, {})[entry.method.lower()] = _operation(entry)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gproxy", "version": __version__},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _operation(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _identifier(entry),
        "summary": entry.summary,
        "security": [{}] if entry.open_to_all else [{"token": []}, {}],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": STRING} for name in entry.names),
            *({"name": name, "in": "query", "schema": schema} for name, schema in entry.query.items()),
        ],
        "responses": {
            **{str(status): _response(status, entry.answer, entry.content_type) for status in entry.statuses},
            **{str(status): _response(status, ERROR, JSON) for status in sorted(entry.error_statuses)},
        },
    }
    if entry.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": entry.body}}}
    return found


def _identifier(entry: Entry) -> str:
    words = re.findall(r"[a-z]+", entry.path.replace("{upstream}", "").replace("{backend}", ""))
    return "_".join([entry.method.lower(), *(word for word in words if word != "v")])


def _response(status: int, schema: Schema | None, content_type: str) -> dict[str, Any]:
    content = {content_type: {"schema": STRING if schema is None else schema}}
    return {"description": HTTPStatus(status).phrase, "content": content}
