"""What is to be: the writes. Each takes effect at once, for all workers, and is one line of the log.

administrative state, weight    the board (shared.py), where workers look ten times a second; they stay at a reload
eject, readmit, empty-pool      told to the workers that are; the next ones know nothing of them
log level                       told to all processes, and to those that come, until the next reload
reload                          the master's to do
"""

from __future__ import annotations

import logging
from typing import Any, Final

from gproxy.admin.answers import Answer, document
from gproxy.admin.desk import Desk, Request, log
from gproxy.admin.schema import number, obj, one_of, or_null
from gproxy.admin.state import backend_document
from gproxy.core.health import Administrative
from gproxy.upstream import Backend

MAX_EJECTION: Final = 86400.0  # seconds

BACKEND: Final = {
    **obj(
        {
            "administrative": one_of(*(state.value for state in Administrative)),
            "weight": or_null(number("integer", 1, 1000)),
        },
        optional=("administrative", "weight"),
    ),
    "minProperties": 1,
}
EJECT: Final = obj({"seconds": number("number", 0.001, MAX_EJECTION)})
NOTHING: Final = obj({})
DONE: Final = obj({"done": {"type": "string"}})


def put_backend(desk: Desk, request: Request) -> Answer:
    """On the board, and in the steward's own picture."""
    backend = _backend(desk, request)
    line = desk.shared.line(backend.upstream.name, backend.name)
    if "administrative" in request.body:
        line.administrative = Administrative(request.body["administrative"])
    if "weight" in request.body:
        weight = request.body["weight"]
        line.weight = None if weight is None else int(weight)
    desk.shared.changed()
    wanted = ", ".join(f"{key} {'as configured' if value is None else value}" for key, value in request.body.items())
    _say(desk, request, wanted, backend)
    backend.follow(line)
    return document(backend_document(desk, desk.totals.total(), backend))


def eject(desk: Desk, request: Request) -> Answer:
    seconds = request.body["seconds"]
    return _tell(desk, request, f"eject for {seconds:g} s", "eject", seconds=seconds)


def readmit(desk: Desk, request: Request) -> Answer:
    return _tell(desk, request, "readmit", "readmit")


def empty_pool(desk: Desk, request: Request) -> Answer:
    return _tell(desk, request, "empty its pools", "empty")


def put_log(desk: Desk, request: Request) -> Answer:
    level = request.body["level"]
    _say(desk, request, f"log level: {level}")
    logging.getLogger("gproxy").setLevel(level.upper())
    desk.tell(do="log", level=level)
    return document({"level": level})


def reload(desk: Desk, request: Request) -> Answer:
    """The master reads its file when we have answered; /v1/state tells the generation, the log what was wrong."""
    _say(desk, request, "reload")
    desk.tell_master(said="reload")
    return document({"done": "the master reads its configuration"}, 202)


def _tell(desk: Desk, request: Request, words: str, do: str, **more: Any) -> Answer:
    backend = _backend(desk, request)
    _say(desk, request, words, backend)
    desk.tell(do=do, upstream=backend.upstream.name, backend=backend.name, **more)
    return document({"done": f"the workers are told: {words}"})


def _backend(desk: Desk, request: Request) -> Backend:
    return desk.backend(request.names["upstream"], request.names["backend"])


def _say(desk: Desk, request: Request, words: str, backend: Backend | None = None) -> None:
    """In the log, and to who looks on."""
    if backend is None:
        log.warning("%s asked: %s", request.who, words)
        desk.flipped("asked", words, who=request.who)
    else:
        log.warning("%s asked: backend %s: %s", request.who, backend.label, words)
        desk.flipped("asked", words, backend.upstream.name, backend.name, who=request.who)
