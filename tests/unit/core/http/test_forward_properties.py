"""Whatever is accepted and forwarded means to the next server what it meant here."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.http.client_lines import client_lines
from gproxy.core.http.end_to_end import HOP_BY_HOP, KEPT, Line
from gproxy.core.http.fields import FRAMING, Fields, canonical, is_forwarding
from gproxy.core.http.forward import ForwardOptions, RequestBlock, ResponseBlock, request_bytes
from gproxy.core.http.framing import request_framing, response_framing
from gproxy.core.http.heads import parse_request_rest, parse_response
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed
from gproxy.core.settings import Forwarded

LIMITS = HeadLimits()
NAMES = [
    b"Accept", b"X-A", b"x_a", b"Connection", b"Keep-Alive", b"TE", b"Upgrade", b"Proxy-Connection", b"Via", b"Cookie",
    b"Trailer", b"Expect", b"Content-Length", b"content_length", b"Transfer-Encoding", b"transfer_encoding",
    b"X-Forwarded-For", b"x_forwarded_for", b"Forwarded", b"X-Request-ID", b"Authorization", b"Date", b"Server",
]  # fmt: skip
VALUES = [
    b"", b"x", b"close", b"keep-alive", b"x-a", b"x-a, upgrade", b"Host", b"Content-Length", b"transfer-encoding",
    b"websocket", b"100-continue", b"5", b"05", b"5, 5", b"chunked", b"Chunked", b"gzip, chunked", b"1.2.3.4",
    b"a b\tc", b"\xe4", b"timeout=5",
]  # fmt: skip

names = st.sampled_from(NAMES) | st.from_regex(rb"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True)
values = st.sampled_from(VALUES) | st.from_regex(rb"[!-~]([ -~\x80-\xff]{0,12}[!-~])?", fullmatch=True)
spaces = st.sampled_from([b"", b" ", b" \t "])
lines = st.lists(st.tuples(names, values), max_size=8)
bodies = st.sampled_from([(), ((b"content-length", b"007"),), ((b"TRANSFER-encoding", b"Chunked"),)])
options = st.builds(
    ForwardOptions,
    forwarded=st.sampled_from(Forwarded),
    request_set=st.sampled_from([(), ((b"X-A", b"set"),)]),
    request_remove=st.sampled_from([frozenset(), frozenset({b"accept"})]),
    response_set=st.sampled_from([(), ((b"X-A", b"set"),)]),
    response_remove=st.sampled_from([frozenset(), frozenset({b"server"})]),
)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Field lines and a blank line, most of them well-formed."""
    drawn = draw(st.permutations([*draw(lines), *draw(bodies)]))
    return b"".join(b"%b:%b%b%b\r\n" % (name, draw(spaces), value, draw(spaces)) for name, value in drawn) + b"\r\n"


def forward_request(rest: bytes, how: ForwardOptions) -> tuple[RequestBlock, bytes]:
    """The block, and the forwarded head from its version on."""
    block = RequestBlock(rest, LIMITS, how)
    head = request_bytes(block, b"GET", b"/", client_lines(block, how, "192.0.2.1", "", False), b"id")
    return block, head.removeprefix(b"GET / ")


def end_to_end_lines(fields: Fields) -> list[Line]:
    """Those that both sides must agree on."""
    ours = {b"via", b"x-request-id", b"host", b"content-length", b"transfer-encoding"}
    return [line for line in fields.lines if canonical(line[0]) not in ours and not is_forwarding(canonical(line[0]))]


@given(blocks(), st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]), options)
def test_a_forwarded_request_means_the_same(block: bytes, version: bytes, how: ForwardOptions) -> None:
    try:
        came, forwarded = forward_request(version + b"\r\nHost: shop\r\n" + block, how)
    except Malformed:
        return
    minor, fields = parse_request_rest(forwarded, LIMITS)
    assert minor == 1
    assert fields.lines[0] == (b"Host", b"shop")
    assert fields.values(b"host") == [b"shop"]
    assert request_framing(minor, fields) == came.framing
    assert_one_framing(fields, came.framing)
    assert_nothing_of_this_hop(fields, came.fields, came.upgrade, how.request_set)
    assert fields.values(b"x-request-id") == [b"id"]
    assert fields.values(b"via")[-1].endswith(b" gproxy")


@given(blocks(), options)
def test_a_forwarded_request_forwards_as_itself(block: bytes, how: ForwardOptions) -> None:
    try:
        once, forwarded = forward_request(b"HTTP/1.1\r\nHost: shop\r\n" + block, how)
    except Malformed:
        return
    twice, forwarded_again = forward_request(forwarded, how)
    _, fields = parse_request_rest(forwarded, LIMITS)
    _, fields_again = parse_request_rest(forwarded_again, LIMITS)
    assert sorted(end_to_end_lines(fields)) == sorted(end_to_end_lines(fields_again))
    assert (once.host, once.framing, once.upgrade, once.expects_continue) == (
        twice.host,
        twice.framing,
        twice.upgrade,
        twice.expects_continue,
    )
    assert fields_again.values(b"via") == [*fields.values(b"via"), b"1.1 gproxy"]
    if how.forwarded is not Forwarded.OFF:
        assert [line for line in fields.lines if is_forwarding(canonical(line[0]))] == [
            line for line in fields_again.lines if is_forwarding(canonical(line[0]))
        ]


@given(blocks(), st.sampled_from([100, 103, 200, 204, 205, 304, 404, 500]), st.sampled_from([0, 1]), options)
def test_a_forwarded_response_means_the_same(block: bytes, status: int, minor: int, how: ForwardOptions) -> None:
    try:
        came = ResponseBlock(b"HTTP/1.%d %d Fine\r\n%b" % (minor, status, block), LIMITS, how)
    except Malformed:
        return
    for form in (came.start_and_fields, came.close_delimited):
        its_minor, its_status, reason, fields = parse_response(form + b"\r\n", LIMITS)
        assert (its_minor, its_status, reason) == (1, status, b"Fine")
        framing = response_framing(status, 1, fields)
        delimited = form is came.close_delimited and came.framing.body is Body.CHUNKED
        until_close = form is came.start_and_fields and came.framing.body is Body.UNTIL_CLOSE
        assert framing == as_sent(came.framing, delimited, until_close)
        if status != 304:
            assert_one_framing(fields, framing)
        assert_nothing_of_this_hop(fields, came.fields, None, how.response_set)


@given(blocks(), st.sampled_from([100, 200, 204, 304, 404]), options)
def test_a_forwarded_response_forwards_as_itself(block: bytes, status: int, how: ForwardOptions) -> None:
    try:
        once = ResponseBlock(b"HTTP/1.1 %d Fine\r\n%b" % (status, block), LIMITS, how)
    except Malformed:
        return
    twice = ResponseBlock(once.start_and_fields + b"\r\n", LIMITS, how)
    _, _, _, fields = parse_response(once.start_and_fields + b"\r\n", LIMITS)
    _, _, _, fields_again = parse_response(twice.start_and_fields + b"\r\n", LIMITS)
    without_via = [line for line in fields.lines if line[0].lower() != b"via"]
    assert sorted(without_via) == sorted(line for line in fields_again.lines if line[0].lower() != b"via")
    assert once.has_date == twice.has_date


def as_sent(framing: Framing, delimited: bool, until_close: bool) -> Framing:
    if delimited:
        return Framing(Body.UNTIL_CLOSE)
    return Framing(Body.CHUNKED) if until_close else framing


def assert_one_framing(fields: Fields, framing: Framing) -> None:
    written = [line for line in fields.lines if canonical(line[0]) in FRAMING]
    match framing.body:
        case Body.LENGTH:
            assert written == [(b"Content-Length", b"%d" % framing.length)]
        case Body.CHUNKED:
            assert written == [(b"Transfer-Encoding", b"chunked")]
        case _:
            assert written == []


def assert_nothing_of_this_hop(fields: Fields, came: Fields, upgrade: bytes | None, added: tuple[Line, ...]) -> None:
    ours = {b"connection", b"upgrade"} if upgrade is not None else set()
    here = {canonical(name) for name, _ in fields.lines} - {canonical(name) for name, _ in added}
    assert here & HOP_BY_HOP == ours
    named = {canonical(name) for name in came.tokens(b"connection")}
    assert not {name for name in named & here if name not in KEPT | ours and not is_forwarding(name)}
