"""A request's head: what is read from it, and what a backend gets."""

from __future__ import annotations

import pytest

from gproxy.core.http.forward import ForwardOptions, RequestBlock, request_bytes
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed
from gproxy.core.settings import Forwarded


def block(fields: bytes = b"", version: bytes = b"HTTP/1.1", options: ForwardOptions | None = None) -> RequestBlock:
    """A request with a Host in front of the given field lines."""
    head = version + b"\r\nHost: shop\r\n" + fields + b"\r\n"
    return RequestBlock(head, HeadLimits(), options or ForwardOptions())


def sent(fields: bytes = b"", options: ForwardOptions | None = None) -> list[bytes]:
    """The lines that a backend gets, without the Host and the Via that each has."""
    lines = block(fields, options=options).end_to_end.split(b"\r\n")
    assert lines[0] == b"Host: shop"
    assert lines[-2:] == [b"Via: 1.1 gproxy", b""]
    return lines[1:-2]


def refused(head: bytes) -> int:
    with pytest.raises(Malformed) as caught:
        RequestBlock(head, HeadLimits(), ForwardOptions())
    return caught.value.status


# --- what is sent on -------------------------------------------------------------------


def test_fields_are_sent_as_they_came_and_in_their_order() -> None:
    assert sent(b"B: 1\r\na:2\r\nB:  x  y \r\nEmpty:\r\n") == [b"B: 1", b"a: 2", b"B: x  y", b"Empty: "]


def test_host_comes_first() -> None:
    came = RequestBlock(b"HTTP/1.1\r\nA: b\r\nhOST: shop:80\r\n\r\n", HeadLimits(), ForwardOptions())
    assert came.end_to_end == b"Host: shop:80\r\nA: b\r\nVia: 1.1 gproxy\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close", b"connection: keep-alive", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive",
        b"TE: trailers", b"Upgrade: websocket", b"HTTP2-Settings: AAMAAABk", b"Proxy-Authenticate: Basic",
        b"Keep_Alive: timeout=5", b"Transfer_Encoding: chunked", b"Content_Length: 5",
    ],
)  # fmt: skip
def test_what_ends_at_this_hop_is_taken_out(line: bytes) -> None:
    assert sent(b"A: 1\r\n" + line + b"\r\nB: 2\r\n") == [b"A: 1", b"B: 2"]


def test_what_connection_names_is_taken_out() -> None:
    came = b"X-One: 1\r\nConnection: x-one, ,X-TWO\r\nX-Two: 2\r\nConnection: X_Three\r\nX-Three: 3\r\nX-Four: 4\r\n"
    assert sent(came) == [b"X-Four: 4"]


@pytest.mark.parametrize(
    "line",
    [
        b"Cookie: a=b", b"Authorization: Basic eA==", b"X-Real-IP: 1.2.3.4", b"Via: 1.1 edge", b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
    ],
)  # fmt: skip
def test_connection_cannot_name_away_what_others_rely_on(line: bytes) -> None:
    name = line.partition(b":")[0]
    assert sent(b"Connection: %b\r\n%b\r\n" % (name, line)) == [line]


def test_connection_cannot_name_away_host() -> None:
    assert block(b"Connection: host\r\n").end_to_end.startswith(b"Host: shop\r\n")


def test_connection_cannot_name_away_expect_while_the_client_waits() -> None:
    came = block(b"Connection: expect\r\nExpect: 100-continue\r\nContent-Length: 5\r\n")
    assert came.expects_continue
    assert b"Expect: 100-continue\r\n" in came.end_to_end


def test_connection_cannot_name_away_forwarding_fields_that_are_left_alone() -> None:
    off = ForwardOptions(forwarded=Forwarded.OFF)
    came = b"Connection: X-Forwarded-For, Forwarded, X-Request-ID\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=a\r\n"
    assert sent(came, off) == [b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=a"]


@pytest.mark.parametrize("line", [b"Trailer: Digest", b"Proxy-Authorization: Basic eA==", b"X-Real-IP: 1.2.3.4"])
def test_fields_that_are_easily_taken_for_hop_by_hop_stay(line: bytes) -> None:
    assert sent(line + b"\r\n") == [line]


def test_a_length_is_written_in_one_way() -> None:
    assert sent(b"content-length: 007\r\n") == [b"Content-Length: 7"]


def test_a_length_of_nothing_is_still_a_length() -> None:
    assert sent(b"Content-Length: 0\r\n") == [b"Content-Length: 0"]


def test_chunked_is_written_in_one_way() -> None:
    assert sent(b"transfer-encoding: ChunkeD\r\n") == [b"Transfer-Encoding: chunked"]


def test_via_is_added_to_those_before() -> None:
    assert sent(b"Via: 1.0 one, 1.1 two\r\n") == [b"Via: 1.0 one, 1.1 two"]


def test_via_tells_the_version_that_the_client_spoke() -> None:
    assert block(version=b"HTTP/1.0").end_to_end.endswith(b"Via: 1.0 gproxy\r\n")


def test_the_request_id_is_left_to_the_end_of_the_head() -> None:
    assert sent(b"X-Request-ID: a\r\nX_Request_ID: b\r\n") == []


def test_the_head_as_a_backend_gets_it() -> None:
    came = block(b"Content-Length: 5\r\nA: b\r\n")
    assert request_bytes(came, b"POST", b"/x?y", b"X-Forwarded-For: ::1\r\n", b"id-1") == (
        b"POST /x?y HTTP/1.1\r\n"
        b"Host: shop\r\n"
        b"A: b\r\n"
        b"Content-Length: 5\r\n"
        b"Via: 1.1 gproxy\r\n"
        b"X-Forwarded-For: ::1\r\n"
        b"X-Request-ID: id-1\r\n"
        b"\r\n"
    )


def test_a_repr_shows_no_credentials() -> None:
    assert b"secret".decode() not in repr(block(b"Authorization: secret\r\n"))


# --- rules -----------------------------------------------------------------------------


def test_rules_remove_and_then_set() -> None:
    rules = ForwardOptions(
        request_remove=frozenset({b"x-debug"}), request_set=((b"X-Env", b"live"), (b"X-Debug", b"off"))
    )
    lines = block(b"x-debug: on\r\nX-ENV: a\r\nX_Env: b\r\nA: b\r\nX-Env: c\r\n", options=rules).end_to_end
    assert lines == b"Host: shop\r\nA: b\r\nVia: 1.1 gproxy\r\nX-Env: live\r\nX-Debug: off\r\n"


def test_a_rule_may_set_several_lines_of_a_name() -> None:
    rules = ForwardOptions(request_set=((b"A", b"1"), (b"A", b"2")))
    assert block(b"A: 0\r\n", options=rules).end_to_end.endswith(b"Via: 1.1 gproxy\r\nA: 1\r\nA: 2\r\n")


def test_a_rule_sets_the_host() -> None:
    came = block(options=ForwardOptions(request_set=((b"host", b"app"),)))
    assert came.end_to_end == b"Host: app\r\nVia: 1.1 gproxy\r\n"
    assert came.host == b"shop"


def test_a_rule_removes_via() -> None:
    came = block(b"Via: 1.1 edge\r\n", options=ForwardOptions(request_remove=frozenset({b"via"})))
    assert came.end_to_end == b"Host: shop\r\n"


def test_a_rule_sets_a_field_that_connection_named() -> None:
    came = block(b"Connection: x-env\r\n", options=ForwardOptions(request_set=((b"X-Env", b"live"),)))
    assert b"X-Env: live\r\n" in came.end_to_end


# --- Host ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        b"HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        b"HTTP/1.1\r\nHost:\r\n\r\n",
        b"HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"HTTP/1.0\r\nHost: a/b\r\n\r\n",
    ],
)
def test_a_missing_doubled_or_invalid_host_is_a_bad_request(head: bytes) -> None:
    assert refused(head) == 400


def test_http_1_0_may_lack_a_host() -> None:
    came = RequestBlock(b"HTTP/1.0\r\nA: b\r\n\r\n", HeadLimits(), ForwardOptions())
    assert came.host is None
    assert came.end_to_end == b"A: b\r\nVia: 1.0 gproxy\r\n"


def test_http_1_0_without_a_host_is_given_ours() -> None:
    came = RequestBlock(b"HTTP/1.0\r\nA: b\r\n\r\n", HeadLimits(), ForwardOptions())
    given = came.with_host(b"127.0.0.1:9000")
    assert given.host == b"127.0.0.1:9000"
    assert given.end_to_end == b"Host: 127.0.0.1:9000\r\n" + came.end_to_end


# --- what is read from it --------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: Close\r\n", False),
        (b"HTTP/1.1", b"Connection: keep-alive\r\nConnection: x, close\r\n", False),
        (b"HTTP/1.1", b"Connection: closed\r\n", True),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
        (b"HTTP/1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_whether_the_client_wants_its_connection_kept(version: bytes, connection: bytes, keep_alive: bool) -> None:
    assert block(connection, version).keep_alive is keep_alive


def test_an_upgrade_is_asked_of_the_backend() -> None:
    fields = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    assert block(fields).upgrade == b"websocket"
    assert sent(fields) == [b"Sec-WebSocket-Version: 13", b"Connection: upgrade", b"Upgrade: websocket"]


def test_an_upgrade_to_one_of_several_protocols() -> None:
    assert block(b"Connection: upgrade\r\nUpgrade: a/1, b\r\nUpgrade: c\r\n").upgrade == b"a/1, b, c"


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (b"HTTP/1.1", b"Upgrade: websocket\r\n"),
        (b"HTTP/1.1", b"Connection: upgrade\r\n"),
        (b"HTTP/1.1", b"Connection: upgrade\r\nUpgrade:\r\n"),
        (b"HTTP/1.0", b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
        (b"HTTP/1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n"),
        (b"HTTP/1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n"),
        (b"HTTP/1.1", b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        (b"HTTP/1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: H2C\r\n"),
    ],
)
def test_what_is_no_upgrade_for_us_is_an_ordinary_request(version: bytes, fields: bytes) -> None:
    came = block(fields, version)
    assert came.upgrade is None
    assert b"pgrade" not in came.end_to_end
    assert b"Connection" not in came.end_to_end


def test_an_upgrade_with_an_empty_body_is_one() -> None:
    assert block(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n").upgrade == b"websocket"


@pytest.mark.parametrize("body", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_the_expectation_of_a_client_with_a_body_is_passed_on(body: bytes) -> None:
    came = block(b"Expect: 100-Continue\r\n" + body)
    assert came.expects_continue
    assert b"Expect: 100-Continue\r\n" in came.end_to_end


@pytest.mark.parametrize("fields", [b"Expect: 100-continue\r\n", b"Expect: 100-continue\r\nContent-Length: 0\r\n"])
def test_without_a_body_nothing_is_held_back(fields: bytes) -> None:
    assert not block(fields).expects_continue


def test_http_1_0_expects_nothing_that_is_passed_on() -> None:
    came = block(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"HTTP/1.0")
    assert not came.expects_continue
    assert b"Expect" not in came.end_to_end


@pytest.mark.parametrize("value", [b"200-ok", b"100-continue, x", b"x", b"100-continue=1"])
def test_any_other_expectation_fails(value: bytes) -> None:
    assert refused(b"HTTP/1.1\r\nHost: a\r\nExpect: " + value + b"\r\n\r\n") == 417


@pytest.mark.parametrize("value", [b"x", b'7f3b-"~!', b"a" * 128])
def test_a_clients_own_request_id_is_taken(value: bytes) -> None:
    assert block(b"X-Request-ID: " + value + b"\r\n").request_id == value


@pytest.mark.parametrize(
    "fields",
    [
        b"", b"X-Request-ID:\r\n", b"X-Request-ID: a b\r\n", b"X-Request-ID: \xe4\r\n",
        b"X-Request-ID: a\r\nX-Request-ID: a\r\n",
        b"X-Request-ID: " + b"a" * 129 + b"\r\n", b"X_Request_ID: a\r\n",
    ],
)  # fmt: skip
def test_a_request_id_that_could_mislead_is_not_taken(fields: bytes) -> None:
    assert block(fields).request_id is None


def test_the_framing_is_of_the_request() -> None:
    assert block(b"Content-Length: 5\r\n").framing == Framing(Body.LENGTH, 5)
    assert block(b"Transfer-Encoding: chunked\r\n").framing == Framing(Body.CHUNKED)
    assert block().framing == Framing(Body.NONE)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_a_malformed_head_is_refused_with_its_own_status(head: bytes, status: int) -> None:
    assert refused(head) == status
