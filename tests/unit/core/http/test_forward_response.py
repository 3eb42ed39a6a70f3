"""A response's head: what is read from it, and what each kind of client gets."""

from __future__ import annotations

import pytest

from gproxy.core.http.forward import ForwardOptions, ResponseBlock
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed

VIA = b"Via: 1.1 gproxy\r\n"


def block(
    fields: bytes = b"", start: bytes = b"HTTP/1.1 200 OK", options: ForwardOptions | None = None
) -> ResponseBlock:
    return ResponseBlock(start + b"\r\n" + fields + b"\r\n", HeadLimits(), options or ForwardOptions())


def refused(head: bytes) -> int:
    with pytest.raises(Malformed) as caught:
        ResponseBlock(head, HeadLimits(), ForwardOptions())
    return caught.value.status


# --- what is sent on -------------------------------------------------------------------


def test_a_response_as_a_client_gets_it() -> None:
    came = block(b"server: x\r\nContent-Length: 05\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n", b"HTTP/1.1 404 Not There")
    assert came.start_and_fields == (
        b"HTTP/1.1 404 Not There\r\nserver: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n" + VIA + b"Content-Length: 5\r\n"
    )
    assert (came.status, came.reason, came.minor) == (404, b"Not There", 1)


def test_a_response_of_http_1_0_is_forwarded_as_1_1() -> None:
    came = block(b"Content-Length: 5\r\n", b"HTTP/1.0 200 OK")
    assert came.start_and_fields == b"HTTP/1.1 200 OK\r\nVia: 1.0 gproxy\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize("start", [b"HTTP/1.1 200", b"HTTP/1.1 200 "])
def test_an_empty_reason_stays_empty(start: bytes) -> None:
    assert block(start=start).start_and_fields.startswith(b"HTTP/1.1 200 \r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close", b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Proxy-Connection: close",
        b"Upgrade: h2c", b"Proxy-Authenticate: Basic", b"TE: trailers",
    ],
)  # fmt: skip
def test_what_ends_at_this_hop_is_taken_out(line: bytes) -> None:
    came = block(b"A: 1\r\n" + line + b"\r\nB: 2\r\n")
    assert came.close_delimited == b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\n" + VIA


def test_what_connection_names_is_taken_out() -> None:
    assert b"X-One" not in block(b"X-One: 1\r\nConnection: x-one\r\n").start_and_fields


def test_connection_cannot_name_away_the_length() -> None:
    assert b"Content-Length: 5\r\n" in block(b"Connection: content-length\r\nContent-Length: 5\r\n").start_and_fields


def test_rules_remove_and_then_set() -> None:
    rules = ForwardOptions(response_remove=frozenset({b"server", b"via"}), response_set=((b"X-Env", b"live"),))
    came = block(b"Server: x\r\nx-env: a\r\nContent-Length: 0\r\n", options=rules)
    assert came.start_and_fields == b"HTTP/1.1 200 OK\r\nX-Env: live\r\nContent-Length: 0\r\n"


def test_request_rules_are_not_for_responses() -> None:
    rules = ForwardOptions(request_remove=frozenset({b"server"}), request_set=((b"A", b"b"),))
    assert block(b"Server: x\r\n", options=rules).start_and_fields == block(b"Server: x\r\n").start_and_fields


# --- where the body ends, for each kind of client --------------------------------------


@pytest.mark.parametrize(
    ("fields", "for_1_1", "for_1_0", "for_head"),
    [
        (b"Content-Length: 5\r\n", b"Content-Length: 5\r\n", b"Content-Length: 5\r\n", b"Content-Length: 5\r\n"),
        (b"Content-Length: 0\r\n", b"Content-Length: 0\r\n", b"Content-Length: 0\r\n", b"Content-Length: 0\r\n"),
        (b"Transfer-Encoding: CHUNKED\r\n", b"Transfer-Encoding: chunked\r\n", b"", b"Transfer-Encoding: chunked\r\n"),
        (b"", b"Transfer-Encoding: chunked\r\n", b"", b""),
    ],
)
def test_how_each_client_learns_where_the_body_ends(
    fields: bytes, for_1_1: bytes, for_1_0: bytes, for_head: bytes
) -> None:
    came = block(fields)
    common = b"HTTP/1.1 200 OK\r\n" + VIA
    assert came.start_and_fields == common + for_1_1
    assert came.close_delimited == common + for_1_0
    assert came.for_head == common + for_head


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints", b"204 No Content"])
@pytest.mark.parametrize("fields", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_where_there_is_never_a_body_none_is_announced(status: bytes, fields: bytes) -> None:
    came = block(fields, b"HTTP/1.1 " + status)
    assert came.framing == Framing(Body.NONE)
    for form in (came.start_and_fields, came.close_delimited, came.for_head):
        assert b"Content-Length" not in form
        assert b"Transfer-Encoding" not in form


def test_a_304_tells_the_length_that_a_200_would_have_had() -> None:
    came = block(b"Content-Length: 05\r\n", b"HTTP/1.1 304 Not Modified")
    assert came.framing == Framing(Body.NONE)
    assert came.start_and_fields.endswith(b"Content-Length: 5\r\n")


@pytest.mark.parametrize("fields", [b"", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n"])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_a_304_tells_nothing_but_a_length(version: bytes, fields: bytes) -> None:
    came = block(fields, version + b" 304 Not Modified")
    assert came.start_and_fields.partition(b"Via")[0] == b"HTTP/1.1 304 Not Modified\r\n"
    assert came.start_and_fields.endswith(b" gproxy\r\n")


def test_the_usual_form_is_at_hand_as_a_whole() -> None:
    came = block(b"Content-Length: 5\r\n")
    assert came.whole == came.start_and_fields + b"\r\n"


@pytest.mark.parametrize(
    ("start", "fields", "length"),
    [
        (b"HTTP/1.1 200 OK", b"Content-Length: 5\r\n", 5),
        (b"HTTP/1.1 200 OK", b"Content-Length: 0\r\n", 0),
        (b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked\r\n", -1),
        (b"HTTP/1.1 200 OK", b"", -1),
        (b"HTTP/1.1 304 Not Modified", b"Content-Length: 5\r\n", -1),
    ],
)
def test_the_length_of_the_body_where_a_length_tells_it(start: bytes, fields: bytes, length: int) -> None:
    assert block(fields, start).length == length


# --- what is read from it --------------------------------------------------------------


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_another_response_follows_an_interim_one(status: bytes) -> None:
    came = block(start=b"HTTP/1.1 " + status)
    assert came.interim
    assert not came.switching


def test_an_interim_response_is_forwarded_as_it_came() -> None:
    rules = ForwardOptions(response_remove=frozenset({b"link"}), response_set=((b"X-Env", b"live"),))
    came = block(b"Link: </a.css>\r\nConnection: close\r\n", b"HTTP/1.1 103 Early Hints", rules)
    assert came.start_and_fields == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n"


def test_a_switch_of_protocols_keeps_what_it_switches_to() -> None:
    fields = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n"
    came = block(fields, b"HTTP/1.1 101 Switching Protocols")
    assert came.switching
    assert not came.interim
    assert came.start_and_fields == (
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n"
        b"Connection: upgrade\r\nUpgrade: websocket\r\n" + VIA
    )


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n",
        b"HTTP/1.0 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_a_switch_to_nothing_is_refused(head: bytes) -> None:
    assert refused(head) == 502


def test_a_final_response_is_neither_interim_nor_a_switch() -> None:
    came = block(b"Connection: upgrade\r\nUpgrade: websocket\r\n")
    assert not came.interim
    assert not came.switching


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: CLOSE\r\n", False),
        (b"HTTP/1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
        (b"HTTP/1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_whether_the_backends_connection_may_live_on(version: bytes, connection: bytes, keep_alive: bool) -> None:
    assert block(connection, version + b" 200 OK").keep_alive is keep_alive


@pytest.mark.parametrize(
    ("fields", "timeout"),
    [
        (b"", None),
        (b"Keep-Alive: timeout=5\r\n", 5.0),
        (b"Keep-Alive: max=100, Timeout = 5\r\n", 5.0),
        (b'Keep-Alive: max=100\r\nKeep-Alive: timeout="5"\r\n', 5.0),
        (b"Keep-Alive: timeout=0\r\n", 0.0),
        (b"Keep-Alive: 300\r\n", None),
        (b"Keep-Alive: timeout=-1\r\n", None),
        (b"Keep-Alive: timeout=x\r\n", None),
        (b"Keep-Alive: xtimeout=5\r\n", None),
    ],
)
def test_how_long_the_backend_keeps_an_idle_connection(fields: bytes, timeout: float | None) -> None:
    assert block(fields).keep_alive_timeout == timeout


def test_whether_there_is_a_date() -> None:
    assert block(b"dAte: today\r\n").has_date
    assert not block(b"A: b\r\n").has_date


def test_a_date_that_a_rule_removes_or_sets_counts() -> None:
    assert not block(b"Date: x\r\n", options=ForwardOptions(response_remove=frozenset({b"date"}))).has_date
    assert block(options=ForwardOptions(response_set=((b"Date", b"x"),))).has_date


def test_a_repr_shows_no_cookies() -> None:
    assert "secret" not in repr(block(b"Set-Cookie: a=secret\r\n"))


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ],
)
def test_a_malformed_response_is_a_bad_gateway(head: bytes) -> None:
    assert refused(head) == 502
