"""Heads: what is well formed is read as it was written, anything else is refused with the right status."""

from __future__ import annotations

from collections.abc import Callable
from string import ascii_letters, digits

import httptools
import pytest

from gproxy.core.http import heads
from gproxy.core.http.fields import Fields
from gproxy.core.http.heads import (
    check_request_line,
    check_unfinished_request,
    check_unfinished_response,
    parse_request_rest,
    parse_response,
    parse_trailers,
)
from gproxy.core.http.messages import HeadLimits, Malformed
from gproxy.core.remembered import Remembered

LIMITS = HeadLimits()
TOKEN_MARKS = b"!#$%&'*+-.^_`|~"

# Each reads a block of field lines with its blank line, and the status of its refusals.
READERS: dict[str, tuple[Callable[[bytes, HeadLimits], Fields], int]] = {
    "request": (lambda block, limits: parse_request_rest(b"HTTP/1.1\r\n" + block, limits)[1], 400),
    "response": (lambda block, limits: parse_response(b"HTTP/1.1 200 OK\r\n" + block, limits)[3], 502),
    "request trailers": (lambda block, limits: parse_trailers(block, limits), 400),
    "response trailers": (lambda block, limits: parse_trailers(block, limits, 502), 502),
}


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line was read before."""
    monkeypatch.setattr(heads, "_KNOWN", Remembered(1024))


def each_refusal(block: bytes) -> list[str]:
    """What each reader says of a block that it has to refuse with its own status."""
    said = []
    for reader, status in READERS.values():
        with pytest.raises(Malformed) as refusal:
            reader(block, LIMITS)
        assert refusal.value.status == status
        said.append(refusal.value.reason)
    return said


def read(block: bytes, limits: HeadLimits = LIMITS) -> tuple[tuple[bytes, bytes], ...]:
    return parse_trailers(block, limits).lines


# Field lines, the same for requests, responses and trailers.


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"", ()),
        (b"Host: a\r\n", ((b"Host", b"a"),)),
        (b"Host:a\r\n", ((b"Host", b"a"),)),
        (b"X: \t a b\t c \t\r\n", ((b"X", b"a b\t c"),)),
        (b"X:\r\n", ((b"X", b""),)),
        (b"X: \t \r\n", ((b"X", b""),)),
        (b"X:\r\nY: \r\nZ:1\r\n", ((b"X", b""), (b"Y", b""), (b"Z", b"1"))),
        (b"x: 1\r\nX: 2\r\nx: 1\r\n", ((b"x", b"1"), (b"X", b"2"), (b"x", b"1"))),
        (b"X: \x80\xff\xc3\xa9\r\n", ((b"X", b"\x80\xff\xc3\xa9"),)),
        (b"X: a:b: c\r\n", ((b"X", b"a:b: c"),)),
        (b"X::\r\n", ((b"X", b":"),)),
        (TOKEN_MARKS + b"09azAZ: x\r\n", ((TOKEN_MARKS + b"09azAZ", b"x"),)),
        (b'X: "\\"(){}<>@,;[]?=/\r\n', ((b"X", b'"\\"(){}<>@,;[]?=/'),)),
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\n", ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))),
        (b"Connection: close\r\nContent-Length: 0\r\n", ((b"Connection", b"close"), (b"Content-Length", b"0"))),
    ],
)
def test_fields_are_read_as_they_were_written(lines: bytes, expected: tuple[tuple[bytes, bytes], ...]) -> None:
    assert [reader(lines + b"\r\n", LIMITS).lines for reader, _ in READERS.values()] == [expected] * len(READERS)


def test_fields_are_found_by_lower_case_name() -> None:
    fields = parse_trailers(b"X-A: 1\r\nx-a: 2\r\n\r\n", LIMITS)
    assert fields.values(b"x-a") == [b"1", b"2"]


@pytest.mark.parametrize(
    "lines",
    [
        b"Host : a\r\n",
        b"Host\t: a\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding\x0b: chunked\r\n",
        b"Transfer\xe2\x80\x8bEncoding: chunked\r\n",
        b" Host: a\r\n",
        b"\tHost: a\r\n",
        b"X: a\r\n b\r\n",
        b"X: a\r\n\tb\r\n",
        b"X:\r\n a\r\n",
        b"X: a\r\n \r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: chunked\x00\r\n",
        b"Content-Length: 5\x0c\r\n",
        b": a\r\n",
        b" : a\r\n",
        b"\0: a\r\n",
        b"Host\r\n",
        b"Host a\r\n",
        b"X: 1\r\nHost\r\n",
        b"GET /smuggled HTTP/1.1\r\n",
        b"X(Y): a\r\n",
        b"X/Y: a\r\n",
        b"X@Y: a\r\n",
        b'"X": a\r\n',
        b"X\xc3\xa9: a\r\n",
        b"X: a\nY: b\r\n",
        b"X: a\n\r\n",
        b"X: a\rY: b\r\n",
        b"X: a\r\r\n",
        b"X: a\n",
        b"X: a\r",
        b"X: a",
        b"\nX: a\r\n",
        b"\rX: a\r\n",
        b"X\r: a\r\n",
        b"X\n: a\r\n",
        b"X: a\r\n\r\nY: b\r\n",
    ],
)
def test_a_bad_field_line_is_refused(lines: bytes) -> None:
    assert all("field line" in reason for reason in each_refusal(lines + b"\r\n"))


def is_accepted(block: bytes) -> bool:
    try:
        parse_trailers(block, LIMITS)
    except Malformed:
        return False
    return True


def test_a_control_character_is_refused_wherever_it_stands() -> None:
    """All but HTAB, which is white space before, in and after a value."""
    controls = [b"%c" % byte for byte in (*range(0x20), 0x7F)]
    for lines in (b"X%b: a\r\n", b"%bX: a\r\n", b"X: a\r\n%b"):
        assert [control for control in controls if is_accepted(lines % control + b"\r\n")] == []
    for lines in (b"X:%b a\r\n", b"X: a%bb\r\n", b"X: a%b\r\n"):
        assert [control for control in controls if is_accepted(lines % control + b"\r\n")] == [b"\t"]


def test_a_name_is_a_token() -> None:
    accepted = bytes(byte for byte in range(256) if is_accepted(b"X%cY: a\r\n\r\n" % byte))
    assert sorted(accepted) == sorted(
        TOKEN_MARKS + (ascii_letters + digits).encode() + b":"
    )  # a second colon is a value's


@pytest.mark.parametrize("block", [b"", b"\n", b"\r", b"\n\r", b"X: a\r\n", b"X: a\r\n\n", b"X: a\r\n\r", b"\r\n\r\n"])
def test_a_block_ends_in_one_blank_line(block: bytes) -> None:
    with pytest.raises(Malformed):
        parse_trailers(block, LIMITS)


def test_a_refusal_names_the_line() -> None:
    with pytest.raises(Malformed, match="400: field line 3 is not `name: value`"):
        parse_trailers(b"A: 1\r\nB: 2\r\n C: 3\r\nD: 4\r\n\r\n", LIMITS)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: gzip\r\ncontent-length: 0\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\ncontent-length: 6\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5 5\r\n",
        b"Content-Length: 5.0\r\n",
        b"Content-Length: \xd9\xa5\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
    ],
)
def test_the_second_reader_refuses_framing_that_has_two_meanings(lines: bytes) -> None:
    assert all("refused by the parser" in reason for reason in each_refusal(lines + b"\r\n"))


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunked;q=1"])
def test_transfer_codings_are_left_to_framing(coding: bytes) -> None:
    assert read(b"Transfer-Encoding: " + coding + b"\r\n\r\n") == ((b"Transfer-Encoding", coding),)


@pytest.mark.parametrize("second_reading", [[], [(b"x", b"1")], [(b"X", b"2")], [(b"X", b"1"), (b"Y", b"2")]], ids=repr)
def test_two_readings_that_differ_are_refused(
    monkeypatch: pytest.MonkeyPatch, second_reading: list[tuple[bytes, bytes]]
) -> None:
    monkeypatch.setattr(heads, "_httptools_fields", lambda *_: second_reading)
    with pytest.raises(Malformed, match="read in two ways"):
        parse_trailers(b"X: 1\r\n\r\n", LIMITS)


def test_a_line_that_has_come_before_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    line = b"X: 1\r\n"
    parse_trailers(line + b"\r\n", LIMITS)
    monkeypatch.setattr(heads, "_httptools_fields", None)
    for reader, _ in READERS.values():
        assert reader(line + line + b"\r\n", LIMITS).lines == ((b"X", b"1"), (b"X", b"1"))


def test_a_refused_line_is_refused_again_by_each_reader() -> None:
    each_refusal(b"X : 1\r\n\r\n")
    each_refusal(b"X : 1\r\n\r\n")


def test_a_long_line_is_not_remembered() -> None:
    parse_trailers(b"X: " + b"1" * 253 + b"\r\nY: " + b"1" * 254 + b"\r\n\r\n", LIMITS)
    assert [line.name for line in heads._KNOWN.values()] == [b"X"]


def test_a_second_reader_that_waits_for_more_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = httptools.HttpResponseParser

    class EndsEarly:
        def __init__(self, protocol: object) -> None:
            self.parser = whole(protocol)

        def feed_data(self, data: bytes) -> None:
            self.parser.feed_data(data[:-1])

    monkeypatch.setattr(httptools, "HttpResponseParser", EndsEarly)
    with pytest.raises(Malformed, match="does not end where its blank line is"):
        parse_trailers(b"X: 1\r\n\r\n", LIMITS)


# The head of a request, from its version on.


@pytest.mark.parametrize(("version", "minor"), [(b"HTTP/1.1", 1), (b"HTTP/1.0", 0), (b"HTTP/1.2", 1), (b"HTTP/1.9", 1)])
def test_the_minor_version_of_a_request(version: bytes, minor: int) -> None:
    assert parse_request_rest(version + b"\r\n\r\n", LIMITS)[0] == minor


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.1"])
def test_another_major_version_is_not_supported(version: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_request_rest(version + b"\r\n\r\n", LIMITS)
    assert refusal.value.status == 505


BAD_VERSIONS = [
    b"", b"http/1.1", b"HTTP/1", b"HTTP/1.", b"HTTP/11", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/2", b"HTTP/1,1",
    b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/1.1\t", b"HTTP /1.1", b"HTTP/ 1.1", b"HTTP/1.1\r", b"HTTP/1.\xd9\xa1",
    b"HTTP/1.x", b"HTTP/+1.1", b"XHTTP/1.1", b"HTTPS/1.1", b"x HTTP/1.1", b"HTTP/1.1\0", b"HTTP/1.1 HTTP/1.1",
]  # fmt: skip


@pytest.mark.parametrize("version", BAD_VERSIONS)
def test_what_is_not_a_version_is_refused(version: bytes) -> None:
    with pytest.raises(Malformed, match="does not end in an HTTP version"):
        parse_request_rest(version + b"\r\nHost: a\r\n\r\n", LIMITS)


@pytest.mark.parametrize("rest", [b"HTTP/1.1\n\n", b"HTTP/1.1\n\r\n", b"HTTP/1.1\r\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1"])
def test_a_version_ends_in_crlf_and_fields_follow(rest: bytes) -> None:
    with pytest.raises(Malformed, match="400: "):
        parse_request_rest(rest, LIMITS)


# The request line.


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH", b"PROPFIND", b"get", b"M-SEARCH", b"1", TOKEN_MARKS])
def test_any_token_is_a_method(method: bytes) -> None:
    check_request_line(method, b"/", LIMITS)


@pytest.mark.parametrize(
    "method",
    [b"", b"GE T", b"GET\t", b"\tGET", b"GET\r", b"\nGET", b"\r\nGET", b"G\0T", b"GET\x7f", b"G\x0bT", b"GET:", b"G/T",
     b"G(T", b'"GET"', b"G\xc3\x89T", b"\x16\x03\x01"],
)  # fmt: skip
def test_a_method_that_is_not_a_token_is_refused(method: bytes) -> None:
    with pytest.raises(Malformed, match="400: the method"):
        check_request_line(method, b"/", LIMITS)


@pytest.mark.parametrize(
    "target",
    [b"/", b"*", b"/a?b=c&d=%20", b"//a", b"http://a/b", b"a:443", b'/{a}|\\^`"<>', bytes(range(0x24, 0x7F)), b'!"'],
)
def test_a_target_is_visible_ascii(target: bytes) -> None:
    check_request_line(b"GET", target, LIMITS)


@pytest.mark.parametrize(
    "target",
    [b"", b"/#a", b"#", b"/a b", b"/ ", b" /", b"/\t", b"/\0", b"/\x0b", b"/\x1f", b"/\x7f", b"/a\r", b"/a\nX:",
     b"/\x80", b"/\xc3\xa9", b"/\xff"],
)  # fmt: skip
def test_a_target_with_anything_else_is_refused(target: bytes) -> None:
    with pytest.raises(Malformed, match="400: the target"):
        check_request_line(b"GET", target, LIMITS)


def test_the_longest_request_line() -> None:
    limits = HeadLimits(request_line=30)
    check_request_line(b"GET", b"/" * 16, limits)
    with pytest.raises(Malformed, match="414: "):
        check_request_line(b"GET", b"/" * 17, limits)
    with pytest.raises(Malformed, match="414: "):
        check_request_line(b"OPTIONS", b"/" * 13, limits)


# The head of a response.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.1 200 OK", (1, 200, b"OK")),
        (b"HTTP/1.0 404 Not Found", (0, 404, b"Not Found")),
        (b"HTTP/1.7 200 OK", (1, 200, b"OK")),
        (b"HTTP/1.1 200 ", (1, 200, b"")),
        (b"HTTP/1.1 200", (1, 200, b"")),
        (b"HTTP/1.1 100 Continue", (1, 100, b"Continue")),
        (b"HTTP/1.1 599 a:\tb", (1, 599, b"a:\tb")),
        (b"HTTP/1.1 200 tr\xc3\xa8s bien", (1, 200, b"tr\xc3\xa8s bien")),
    ],
)
def test_status_lines(line: bytes, expected: tuple[int, int, bytes]) -> None:
    assert parse_response(line + b"\r\nX: 1\r\n\r\n", LIMITS)[:3] == expected


@pytest.mark.parametrize("status", [101, 204, 304])
def test_a_status_without_a_body_has_fields_all_the_same(status: int) -> None:
    head = b"HTTP/1.1 %d x\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\n" % status
    assert [name for name, _ in parse_response(head, LIMITS)[3].lines] == [b"Connection", b"Upgrade", b"Content-Length"]


@pytest.mark.parametrize(
    "line",
    [
        b"", b"OK", b"200 OK", b"HTTP/2.0 200 OK", b"HTTP/2 200", b"HTTP/0.9 200 OK", b"HTTP/1.10 200 OK",
        b"HTTP/1 200 OK", b"http/1.1 200 OK", b"ICY 200 OK", b" HTTP/1.1 200 OK", b"\nHTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 200OK",
        b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 ", b"HTTP/1.1", b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 000 OK",
        b"HTTP/1.1 600 OK", b"HTTP/1.1 999 OK", b"HTTP/1.1 -10 OK", b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 O\x1bK",
        b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\nK", b"HTTP/1.1 200 OK\x7f", b"HTTP/1.1 200\n",
    ],
)  # fmt: skip
def test_a_bad_status_line_is_refused(line: bytes) -> None:
    with pytest.raises(Malformed, match="502: the response does not start"):
        parse_response(line + b"\r\nX: 1\r\n\r\n", LIMITS)


# Limits.


def lines(number: int) -> bytes:
    return b"X: 1\r\n" * number + b"\r\n"


@pytest.mark.parametrize(
    ("kind", "status"), [("request", 431), ("response", 502), ("request trailers", 400), ("response trailers", 502)]
)
def test_the_most_fields(kind: str, status: int) -> None:
    read_block, limits = READERS[kind][0], HeadLimits(fields=3)
    assert len(read_block(lines(3), limits).lines) == 3
    with pytest.raises(Malformed, match="too many fields") as refusal:
        read_block(lines(4), limits)
    assert refusal.value.status == status


@pytest.mark.parametrize(
    ("kind", "start", "status"),
    [("request", b"HTTP/1.1\r\n", 431), ("response", b"HTTP/1.1 200 OK\r\n", 502), ("response trailers", b"", 502)],
)
def test_the_longest_block(kind: str, start: bytes, status: int) -> None:
    read_block, size = READERS[kind][0], len(start + lines(3))
    assert len(read_block(lines(3), HeadLimits(head=size)).lines) == 3
    with pytest.raises(Malformed, match="too long") as refusal:
        read_block(lines(3), HeadLimits(head=size - 1))
    assert refusal.value.status == status


@pytest.mark.parametrize("junk", [b"a" * 65000, b"a:" + b"b" * 65000 + b"\0", b"a:b\r\n" * 127 + b"c" * 60000])
def test_a_long_bad_block_is_refused_without_looking_twice(junk: bytes) -> None:
    """An expression that backtracks would meet the suite's time limit here."""
    for _ in range(50):
        with pytest.raises(Malformed, match="field line"):
            parse_trailers(junk + b"\r\n\r\n", LIMITS)


# A head that has not ended yet.

UNFINISHED = {"request": (check_unfinished_request, 400), "response": (check_unfinished_response, 502)}


@pytest.fixture(params=UNFINISHED)
def check(request: pytest.FixtureRequest) -> tuple[Callable[..., None], int]:
    return UNFINISHED[request.param]


@pytest.mark.parametrize(
    "data",
    [b"", b"G", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\nX: \t\xff\r\n",
     b"GET / HTTP/1.1\r\nX: a\r\n\r", b"\r\nGET /"],
)  # fmt: skip
def test_an_unfinished_head_may_go_on(check: tuple[Callable[..., None], int], data: bytes) -> None:
    check[0](data, LIMITS)


@pytest.mark.parametrize(
    "data",
    [b"\0", b"\n", b"\rX", b"\r\r", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rX", b"GET / HTTP/1.1\r\r", b"X\r\n\n",
     b"X: a\0", b"X: \x0b", b"X: \x7f", b"\x16\x03\x01\x02\x00", b"X\n\r", b"X: a\r\nY\x1b", b"X: a\r\n\r\r"],
)  # fmt: skip
def test_an_unfinished_head_is_refused_once_it_is_bad(check: tuple[Callable[..., None], int], data: bytes) -> None:
    refuse, status = check
    with pytest.raises(Malformed, match="control character") as refusal:
        refuse(data, LIMITS)
    assert refusal.value.status == status


def test_an_unfinished_head_that_can_only_be_too_long(check: tuple[Callable[..., None], int]) -> None:
    refuse, status = check
    refuse(b"a\r\n" + b"b" * 16, HeadLimits(head=20))
    with pytest.raises(Malformed, match="head is too long") as refusal:
        refuse(b"a\r\n" + b"b" * 17, HeadLimits(head=20))
    assert refusal.value.status == {400: 431, 502: 502}[status]


@pytest.mark.parametrize("data", [b"a" * 20, b"a" * 19 + b"\r", b"a" * 19 + b"\r\n", b"a" * 15 + b"\r\n" + b"b" * 9])
def test_a_request_line_may_still_be_short_enough(data: bytes) -> None:
    check_unfinished_request(data, HeadLimits(request_line=20))


@pytest.mark.parametrize("data", [b"a" * 21, b"a" * 20 + b"\r", b"a" * 20 + b"\r\n", b"a" * 20 + b"\r\nX: a\r\n"])
def test_a_request_line_that_is_too_long_already(data: bytes) -> None:
    with pytest.raises(Malformed, match="414: "):
        check_unfinished_request(data, HeadLimits(request_line=20))


def test_a_response_has_no_limit_for_its_first_line() -> None:
    check_unfinished_response(b"a" * 100, HeadLimits(request_line=20))


@pytest.mark.parametrize("piece", [b"b", b"\n", b"\nb", b"\n\r", b"\n\r\n"])
def test_what_was_checked_before_is_not_looked_at_again(check: tuple[Callable[..., None], int], piece: bytes) -> None:
    """All but a last CR, which was taken on trust."""
    before = b"\0a\r"
    if piece.startswith(b"\n"):
        check[0](before + piece, LIMITS, len(before))
    else:
        with pytest.raises(Malformed, match="control character"):
            check[0](before + piece, LIMITS, len(before))


def test_a_line_feed_after_checked_bytes_is_bare(check: tuple[Callable[..., None], int]) -> None:
    with pytest.raises(Malformed, match="control character"):
        check[0](b"a\n", LIMITS, 1)
