"""The stories of `gproxy explain` as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy.ctl.explain import is_client
from gproxy.ctl.prose import stories, story

IDLE = {"kind": "idle", "why": "it was used last", "uses": 12, "idle": 0.4}
FRESH = {"kind": "fresh", "why": "a pooled one had just ended, so a fresh one was asked for", "uses": 1, "idle": None}


def a_try(backend: str | None, **members: Any) -> dict[str, Any]:
    default = {
        "at": 0.0, "candidates": ["b1", "b3"], "excluded": [], "backend": backend, "queued": False,
        "why": "its turn", "scores": [], "connection": None, "failure": None,
    }  # fmt: skip
    return default | members


REQUEST: dict[str, Any] = {
    "worker": 1, "mode": "http", "began": 0.814, "ended": 0.8, "client": "10.0.0.7:51234", "listener": "web",
    "request_id": "4f1c", "method": "GET", "target": "/api/x", "version": "HTTP/1.1",
    "upstream": "app", "balance": "least_connections", "backend": "b1",
    "tries": [
        a_try(
            "b3", why="the least load", connection=IDLE, failure="its idle connection ended before a response",
            scores=[{"backend": "b1", "score": 3.0}, {"backend": "b3", "score": 2.0}],
            excluded=[{"backend": "b2", "reason": "down"}, {"backend": "b4", "reason": "draining"}],
        ),
        a_try("b1", at=0.001, why="the only candidate", candidates=["b1"], connection=FRESH),
    ],
    "timers": {"read": 0.0, "wait": 0.0, "connect": 0.001, "response": 0.012, "total": 0.0144},
    "status": 200, "told": None, "bytes_in": 120, "bytes_out": 1234, "code": "--", "ending": "Both sides finished.",
}  # fmt: skip


def test_a_request_that_was_tried_twice() -> None:
    assert story(REQUEST).splitlines() == [
        "request 4f1c: GET /api/x HTTP/1.1",
        "  client      10.0.0.7:51234 at listener web, worker 1, ended 0.8 s ago",
        "  upstream    app, least_connections",
        "  try 1       b3: the least load",
        "    candidates  b1 (3), b3 (2)",
        "    excluded    b2: down; b4: draining",
        "    connection  an idle one, for 400 ms; this is its use number 12",
        "    failed      its idle connection ended before a response",
        "  try 2       b1: the only candidate",
        "    candidates  b1",
        "    connection  a fresh one: a pooled one had just ended, so a fresh one was asked for",
        "  answered    200",
        "  bytes       120 from the client, 1,234 to it",
        "  timers      head read 0 us, waited 0 us, connected 1 ms, response 12 ms, in all 14.4 ms",
        "  ended       --  Both sides finished.",
    ]


def test_a_session_that_waits() -> None:
    full = [{"backend": "b1", "reason": "at its connection limit"}]
    waiting = REQUEST | {
        "mode": "tcp", "ended": None, "began": 3.0, "code": None, "ending": None, "backend": None,
        "tries": [a_try(None, queued=True, candidates=[], excluded=full, at=1.0)],
        "timers": dict.fromkeys(("read", "wait", "connect", "response"), None) | {"total": 3.0},
    }  # fmt: skip
    assert story(waiting).splitlines() == [
        "tcp session of 10.0.0.7:51234",
        "  client      10.0.0.7:51234 at listener web, worker 1, began 3.0 s ago",
        "  upstream    app, least_connections",
        "  queue       no connection slot was free, so it waited for one: 2 s",
        "    excluded    b1: at its connection limit",
        "  bytes       120 from the client, 1,234 to it",
        "  timers      in all 3 s",
        "  ended       not yet",
    ]


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({"tries": [a_try(None, candidates=[])]}, "  try 1       nobody could serve"),
        ({"status": 503, "told": "nobody can serve"}, "  answered    503 of gproxy's own: nobody can serve"),
        ({"status": 0, "code": "CH"}, "  answered    nothing"),
        ({"status": 0, "code": None}, "  answered    not yet"),
        ({"method": None, "target": None, "version": None}, "request 4f1c: a request that was never read"),
        ({"request_id": None}, "request (without an id): GET /api/x HTTP/1.1"),
        (
            {"tries": [a_try("b1", connection={"kind": "ahead", "why": "", "uses": 1, "idle": 90.0})]},
            "    connection  one that was dialled ahead, 1 min 30 s before",
        ),
        ({"target": "/\x1b[31m\x07\x9b"}, "request 4f1c: GET /\\x1b[31m\\x07\\x9b HTTP/1.1"),
        ({"request_id": "a\nb"}, "request a\\nb: GET /api/x HTTP/1.1"),
    ],
)  # fmt: skip
def test_a_line(members: dict[str, Any], line: str) -> None:
    assert line in story(REQUEST | members).split("\n")


def test_several_stand_apart() -> None:
    assert stories({"stories": [REQUEST, REQUEST]}) == f"{story(REQUEST)}\n\n{story(REQUEST)}"


@pytest.mark.parametrize(
    ("what", "client"),
    [("10.0.0.7", True), ("10.0.0.7:51234", True), ("::1", True), ("[::1]:80", True), ("unix:", True),
     ("fe80::1%eth0", True), ("4f1c0e", False), ("d4bcac45b6a150f500000003", False), ("10.0.0", False),
     ("a:1", False), ("10.0.0.7:x", False)],
)  # fmt: skip
def test_what_is_an_address(what: str, client: bool) -> None:
    assert is_client(what) is client
