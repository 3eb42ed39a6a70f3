"""What `gproxy explain` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gproxy.admin import stories
from gproxy.admin.answers import Answer, ApiError, document, whole_number
from gproxy.admin.desk import Desk, Request
from gproxy.admin.schema import COUNT, Schema, array, number, obj, one_of

SCHEMA: Final = obj({"stories": array(stories.SCHEMA), "left_off": COUNT, "workers": COUNT, "answered": COUNT})
_NAME: Final[Schema] = {"type": "string", "minLength": 1}
QUERY: Final[dict[str, Schema]] = {
    "request_id": _NAME,
    "client": _NAME,
    "last": number("integer", 1, stories.MOST),
    "failed": one_of("true", "false"),
}


def get_explain(desk: Desk, request: Request) -> Answer:
    """Of all workers that answer in time, the latest first."""
    wanted = _wanted(request.query)
    answers = desk.questions.ask(desk.config.workers, ask="stories", **wanted._asdict())
    found = sorted((entry for answer in answers for entry in answer["stories"]), key=_latest)[: wanted.last]
    no_room = sum(answer["left_off"] for answer in answers)
    left_off = min(no_room, wanted.last - len(found))
    workers = desk.config.workers
    return document({"stories": found, "left_off": left_off, "workers": workers, "answered": len(answers)})


def _wanted(query: Mapping[str, str]) -> stories.Wanted:
    """ApiError 400."""
    for name in ("request_id", "client"):
        if query.get(name) == "":
            raise ApiError(400, f"{name} must not be empty")
    if query.get("failed", "false") not in ("true", "false"):
        raise ApiError(400, "failed must be true or false")
    last = whole_number("last", query.get("last", "20"), 1, stories.MOST)
    return stories.Wanted(last, query.get("request_id", ""), query.get("client", ""), query.get("failed") == "true")


def _latest(entry: dict[str, Any]) -> float:
    """For how long nothing has been new of it, as the worker sorts them."""
    return float(entry["began"] if entry["ended"] is None else entry["ended"])
