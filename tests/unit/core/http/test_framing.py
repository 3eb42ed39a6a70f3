"""How long a body is: one meaning, or a refusal."""

from __future__ import annotations

import pytest

from gproxy.core.http import framing
from gproxy.core.http.fields import Fields
from gproxy.core.http.framing import request_framing, response_framing
from gproxy.core.http.messages import Body, Framing, Malformed

NONE = Framing(Body.NONE)
CHUNKED = Framing(Body.CHUNKED)
UNTIL_CLOSE = Framing(Body.UNTIL_CLOSE)

LENGTH_AND_CODING = [
    ((b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")),
    ((b"transfer-encoding", b"chunked"), (b"CONTENT-LENGTH", b"5")),
    ((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"0")),
    ((b"Transfer-Encoding", b"gzip"), (b"Content-Length", b"5")),
    ((b"Transfer-Encoding", b""), (b"Content-Length", b"5")),
    ((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"")),
]

REPEATED_LENGTHS = [(b"5", b"5"), (b"5", b"6"), (b"5", b""), (b"", b""), (b"0", b"00"), (b"1", b"1", b"1")]

BAD_LENGTHS = [
    b"", b"+5", b"-5", b"-0", b"5, 5", b"5,5", b"5,6", b",5", b"5,", b"0x5", b"0b1", b"0o5", b"5 5", b" 5", b"5 ",
    b"\t5", b"5\x0b", b"\x0c5", b"5\0", b"5\r", b"5\n", b"5_0", b"5.0", b"5e1", b"5a", b"five", b"5;q=1", b'"5"',
    b"\xd9\xa5", b"\xef\xbc\x95", b"\xb2", b"9" * 20, b"0" * 19 + b"5", b"9223372036854775808", b"9" * 19, b"9" * 5000,
]  # fmt: skip

# A response refuses these too, always with 502.
UNCLEAR_CODINGS = [
    (b"",), (b",",), (b"chunked, chunked",), (b"chunked,chunked",), (b"CHUNKED, chunked",), (b"chunked", b"chunked"),
    (b"chunked;q=1",), (b"chunked; q=1",), (b"\x0bchunked",), (b"chunked\x0b",), (b"\x0cchunked",), (b"chunked\0",),
    (b"chunked,",), (b",chunked",), (b"chunked, gzip",), (b"chunked, identity",), (b"gzip", b"chunked"),
    (b"chunked", b""), (b"", b"chunked"), (b"chunked", b"gzip"), (b"gzip", b"deflate"), (b"'chunked\xa0",),
    (b'"chunked"',), (b"chu nked",), (b"chunked chunked",), (b"ch\xc3\xbcnked",), (b"chunked\xa0",), (b"chunked/1",),
    (b"gzip;q=1",), (b"chunked:",), (b": chunked",), (b"gzip,, chunked",), (b"\xe2\x84\xaachunked",),
]  # fmt: skip

UNKNOWN_CODINGS = [
    b"gzip", b"GZIP", b"deflate", b"identity", b"xchunked", b"chunkedx", b"x-chunked", b"gzip, chunked",
    b"gzip,chunked", b"gzip\t, deflate, Chunked", b"trailers", b"5",
]  # fmt: skip


def lengths(*values: bytes) -> Fields:
    return Fields((b"Content-Length", value) for value in values)


def codings(*values: bytes) -> Fields:
    return Fields((b"Transfer-Encoding", value) for value in values)


# Requests.


@pytest.mark.parametrize(
    ("value", "length"),
    [(b"0", 0), (b"5", 5), (b"0005", 5), (b"9223372036854775807", 2**63 - 1), (b"0" * 18 + b"5", 5)],
)
@pytest.mark.parametrize("minor", [0, 1])
def test_a_length(minor: int, value: bytes, length: int) -> None:
    assert request_framing(minor, lengths(value)) == Framing(Body.LENGTH, length)
    assert response_framing(200, minor, lengths(value)) == Framing(Body.LENGTH, length)


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED", b"cHuNkEd"])
def test_chunked(value: bytes) -> None:
    assert request_framing(1, codings(value)) == CHUNKED
    assert response_framing(200, 1, codings(value)) == CHUNKED


@pytest.mark.parametrize("minor", [0, 1])
def test_a_request_without_framing_fields_has_no_body(minor: int) -> None:
    fields = Fields(
        [(b"Host", b"a"), (b"Content-Type", b"text/plain"), (b"Content-Length-X", b"5"), (b"TE", b"chunked")]
    )
    assert request_framing(minor, fields) == NONE


@pytest.mark.parametrize("values", REPEATED_LENGTHS)
def test_a_length_stands_once(values: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed, match="400: Content-Length more than once"):
        request_framing(1, lengths(*values))
    with pytest.raises(Malformed, match="502: Content-Length more than once"):
        response_framing(200, 1, lengths(*values))


@pytest.mark.parametrize("value", BAD_LENGTHS)
def test_a_length_is_digits_and_nothing_else(value: bytes) -> None:
    with pytest.raises(Malformed, match="400: Content-Length is not"):
        request_framing(1, lengths(value))
    with pytest.raises(Malformed, match="502: Content-Length is not"):
        response_framing(200, 1, lengths(value))


@pytest.mark.parametrize("lines", LENGTH_AND_CODING)
@pytest.mark.parametrize("minor", [0, 1])
def test_a_length_with_a_transfer_coding_is_refused(minor: int, lines: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(Malformed, match="400: Content-Length together"):
        request_framing(minor, Fields(lines))
    with pytest.raises(Malformed, match="502: Content-Length together"):
        response_framing(200, minor, Fields(lines))


@pytest.mark.parametrize("values", UNCLEAR_CODINGS)
def test_a_transfer_coding_that_is_not_just_chunked_is_refused(values: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed, match="400: Transfer-Encoding is not"):
        request_framing(1, codings(*values))
    with pytest.raises(Malformed, match="502: Transfer-Encoding is not"):
        response_framing(200, 1, codings(*values))


@pytest.mark.parametrize("value", UNKNOWN_CODINGS)
def test_a_clear_but_unknown_transfer_coding_is_not_implemented(value: bytes) -> None:
    with pytest.raises(Malformed, match="501: "):
        request_framing(1, codings(value))
    with pytest.raises(Malformed, match="502: "):
        response_framing(200, 1, codings(value))


@pytest.mark.parametrize("value", [b"chunked", b"gzip", b"", b"identity"])
def test_http_1_0_knows_no_transfer_codings(value: bytes) -> None:
    with pytest.raises(Malformed, match=r"400: Transfer-Encoding in HTTP/1\.0"):
        request_framing(0, codings(value))
    with pytest.raises(Malformed, match=r"502: Transfer-Encoding in HTTP/1\.0"):
        response_framing(200, 0, codings(value))


# Responses.


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("status", [200, 205, 301, 404, 500, 599])
def test_a_response_without_framing_fields_lasts_until_the_close(status: int, minor: int) -> None:
    assert response_framing(status, minor, Fields([(b"Content-Type", b"text/plain")])) == UNTIL_CLOSE


@pytest.mark.parametrize("status", [100, 101, 103, 199, 204, 304])
def test_some_statuses_never_have_a_body(status: int) -> None:
    chunked_and_length = Fields(LENGTH_AND_CODING[0])
    for fields in (
        Fields(()),
        lengths(b"5"),
        lengths(b"5", b"6"),
        lengths(b"x"),
        codings(b"chunked"),
        chunked_and_length,
    ):
        assert response_framing(status, 1, fields) == NONE


@pytest.mark.parametrize("status", [200, 203, 205, 206, 303, 305, 400])
def test_all_others_may_have_one(status: int) -> None:
    assert response_framing(status, 1, lengths(b"5")) == Framing(Body.LENGTH, 5)


def test_a_long_length_is_refused_and_not_remembered() -> None:
    before = framing._framing_of.cache_info().currsize
    with pytest.raises(Malformed, match="not a number of bytes"):
        request_framing(1, Fields([(b"Content-Length", b"0" * 60_000)]))
    assert framing._framing_of.cache_info().currsize == before
