"""The readers of message bodies: where a body ends, and what is refused on the way."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy.core.http.bodies import (
    ChunkedReader,
    LengthReader,
    UntilCloseReader,
    body_reader,
    encode_chunk,
    encode_last,
)
from gproxy.core.http.fields import Fields
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed

LIMITS = HeadLimits()
NEXT_MESSAGE = b"GET /next HTTP/1.1\r\n\r\n"


def read(data: bytes, limits: HeadLimits = LIMITS) -> tuple[bytes, int, ChunkedReader]:
    """The decoded body, the bytes consumed and the reader, of one feed."""
    reader = ChunkedReader(limits)
    pieces, consumed = reader.feed(data)
    return b"".join(pieces), consumed, reader


def assert_refused(data: bytes, limits: HeadLimits = LIMITS) -> None:
    """It is refused, whether it comes at once or byte by byte."""
    with pytest.raises(Malformed) as refused:
        ChunkedReader(limits).feed(data)
    assert refused.value.status == 400
    assert bytes_until_refused(data, limits) <= len(data)


def bytes_until_refused(data: bytes, limits: HeadLimits = LIMITS) -> int:
    """How many bytes it took, one after the other."""
    reader = ChunkedReader(limits)
    for index in range(len(data)):
        try:
            reader.feed(data[index : index + 1])
        except Malformed:
            return index + 1
    pytest.fail("it was not refused")


# By length.


def test_a_length_ends_at_its_last_byte() -> None:
    reader = LengthReader(5)
    assert reader.feed(b"hello" + NEXT_MESSAGE) == ([b"hello"], 5)
    assert reader.done


def test_a_length_is_read_in_pieces() -> None:
    reader = LengthReader(5)
    assert reader.feed(b"he") == ([b"he"], 2)
    assert (reader.remaining, reader.done) == (3, False)
    assert reader.feed(b"llo") == ([b"llo"], 3)
    assert reader.done


def test_a_length_takes_nothing_once_it_is_done() -> None:
    reader = LengthReader(0)
    assert reader.done
    assert reader.feed(NEXT_MESSAGE) == ([], 0)


def test_a_piece_that_is_all_body_is_not_copied() -> None:
    piece = b"x" * 1000
    assert LengthReader(1000).feed(piece)[0][0] is piece
    assert LengthReader(2000).feed(piece)[0][0] is piece


def test_no_data_makes_no_piece() -> None:
    assert LengthReader(5).feed(b"") == ([], 0)


def test_spliced_bytes_count() -> None:
    reader = LengthReader(5)
    reader.advance(3)
    assert reader.remaining == 2
    reader.advance(0)
    reader.advance(2)
    assert reader.done


@pytest.mark.parametrize("count", [6, -1])
def test_more_than_the_body_can_not_be_spliced(count: int) -> None:
    with pytest.raises(ValueError, match="with 5 left"):
        LengthReader(5).advance(count)


def test_a_length_that_is_cut_short_is_malformed() -> None:
    reader = LengthReader(5, status=502)
    reader.feed(b"hell")
    with pytest.raises(Malformed, match="1 bytes early") as refused:
        reader.eof()
    assert refused.value.status == 502


def test_a_length_is_a_requests_unless_told() -> None:
    with pytest.raises(Malformed) as refused:
        LengthReader(5).eof()
    assert refused.value.status == 400


def test_a_whole_length_may_be_followed_by_the_end() -> None:
    reader = LengthReader(5)
    reader.feed(b"hello")
    reader.eof()


# Until close.


def test_until_close_takes_everything() -> None:
    reader = UntilCloseReader()
    piece = b"HTTP/1.1 200 OK\r\n\r\n"
    assert reader.feed(piece) == ([piece], len(piece))
    assert not reader.done


def test_until_close_is_done_at_the_end_of_input() -> None:
    reader = UntilCloseReader()
    assert reader.feed(b"") == ([], 0)
    reader.eof()
    assert reader.done


# Chunked: what is good.


def test_chunks_are_joined_to_a_body() -> None:
    body, consumed, reader = read(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert body == b"hello world"
    assert (consumed, reader.done, reader.trailers) == (26, True, None)


def test_a_chunk_may_come_in_pieces() -> None:
    reader = ChunkedReader(LIMITS)
    parts = [b"0", b"5\r", b"\nhe", b"llo", b"\r", b"\n0\r\n\r", b"\n"]
    assert [reader.feed(part) for part in parts] == [
        ([], 1), ([], 2), ([b"he"], 3), ([b"llo"], 3), ([], 1), ([], 5), ([], 1)
    ]  # fmt: skip
    assert reader.done


def test_what_follows_the_last_chunk_is_not_consumed() -> None:
    message = b"5\r\nhello\r\n0\r\n\r\n"
    body, consumed, reader = read(message + NEXT_MESSAGE)
    assert (body, consumed) == (b"hello", len(message))
    assert reader.feed(NEXT_MESSAGE) == ([], 0)


def test_a_body_may_be_empty() -> None:
    body, consumed, reader = read(b"0\r\n\r\n")
    assert (body, consumed, reader.done) == (b"", 5, True)


@pytest.mark.parametrize("size", [b"a", b"A", b"0a", b"0000000000000000a"[-15:]])
def test_sizes_are_hexadecimal(size: bytes) -> None:
    assert read(size + b"\r\n0123456789\r\n0\r\n\r\n")[0] == b"0123456789"


@pytest.mark.parametrize("zeros", [b"00", b"0" * 15])
def test_the_last_chunk_may_have_several_zeros(zeros: bytes) -> None:
    assert read(zeros + b"\r\n\r\n")[2].done


def test_a_chunk_of_the_largest_size_can_begin() -> None:
    assert read(b"f" * 15 + b"\r\nhello")[:2] == (b"hello", 22)


def test_a_chunk_that_fills_a_piece_is_not_copied() -> None:
    reader = ChunkedReader(LIMITS)
    reader.feed(b"1000\r\n")
    piece = b"x" * 1000
    assert reader.feed(piece)[0][0] is piece


@pytest.mark.parametrize(
    "extension",
    [b";x", b";x=1", b';x="a;b"', b"; x = 1 ; y", b" ;x", b"\t;x", b"; ", b";", b";signature=0123abc", b';x="\\""'],
)
def test_extensions_are_read_over(extension: bytes) -> None:
    body, _, reader = read(b"5%b\r\nhello\r\n0%b\r\n\r\n" % (extension, extension))
    assert (body, reader.done) == (b"hello", True)


def test_trailers_are_fields() -> None:
    _, consumed, reader = read(b"0\r\nX-Sum: abc\r\nX-Empty:\r\n\r\n" + NEXT_MESSAGE)
    assert reader.trailers is not None
    assert reader.trailers.lines == ((b"X-Sum", b"abc"), (b"X-Empty", b""))
    assert consumed == 27


def test_trailers_are_known_once_the_body_is_done() -> None:
    reader = ChunkedReader(LIMITS)
    reader.feed(b"0\r\nX-Sum: abc\r\n\r")
    assert (reader.done, reader.trailers) == (False, None)
    reader.feed(b"\n")
    assert reader.done
    assert reader.trailers is not None


@pytest.mark.parametrize("cut", range(len(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n")))
def test_an_end_within_the_chunks_is_malformed(cut: int) -> None:
    reader = ChunkedReader(LIMITS, status=502)
    reader.feed(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"[:cut])
    with pytest.raises(Malformed, match="within its chunks") as refused:
        reader.eof()
    assert refused.value.status == 502


def test_an_end_after_the_last_chunk_is_fine() -> None:
    read(b"0\r\n\r\n")[2].eof()


# Chunked: what is refused.


@pytest.mark.parametrize(
    "size",
    [
        b"",
        b"0x5",
        b"5x",
        b"x5",
        b"+5",
        b"-5",
        b"-0",
        b" 5",
        b"\t5",
        b"5 ",
        b"5\t",
        b"5 5",
        b"5_0",
        b"5.",
        b"5,5",
        b"5h",
        b"g",
        b"1" * 16,
        b"0" * 16,
        b"f" * 4000,
        b"\x005",
        b"5\x00",
        b"5\x0b",
        b"\xb25",  # a digit to str.isdigit
        b"\xef\xbc\x95",  # a full-width 5, which int() reads
        b";x",
        b" ;x",
        b"5 x",
        b"5=x",
        b'"5"',
        b"\r\n5",
    ],
)
def test_a_size_is_hexadecimal_digits_and_nothing_else(size: bytes) -> None:
    assert_refused(size + b"\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\n", b"\x0b\r\n", b"\x00\r\n", b"\x85\r\n"])
def test_a_size_ends_with_crlf_alone(end: bytes) -> None:
    """A CR or LF too many would be data to us; so these have a size at which the count fails."""
    assert_refused(b"5" + end + b"hello\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "end", [b"", b"\n", b"\r", b"\r\r\n", b"\n\n", b"\n\r", b"\rX", b"X\r\n", b" \r\n", b"\x00\r\n"]
)
def test_data_is_followed_by_crlf_alone(end: bytes) -> None:
    assert_refused(b"5\r\nhello" + end + b"0\r\n\r\n")


@pytest.mark.parametrize("end", [b"X", b"\n", b"\rX"])
def test_a_wrong_end_of_data_is_refused_at_its_first_byte(end: bytes) -> None:
    assert bytes_until_refused(b"5\r\nhello" + end + b"rest") == len(b"5\r\nhello" + end)


@pytest.mark.parametrize("byte", [b"\n", b"\r", b"\x00", b"\x0b", b"\x7f", b"\x80", b"\xff", b'"\n"', b'"\r"'])
def test_an_extension_is_visible(byte: bytes) -> None:
    assert_refused(b"5;x=" + byte + b"y\r\nhello\r\n0\r\n\r\n")


def test_an_extension_that_hides_a_chunk_is_refused() -> None:
    """Some servers end the line at the LF, some read over it: the one would see a second request."""
    assert_refused(b"2;\nxx\r\n4c\r\n0\r\n\r\n" + NEXT_MESSAGE)


@pytest.mark.parametrize(
    "trailers",
    [
        b"\n",
        b"\r\r\n",
        b"X: y\n\r\n",
        b"X: y\r\n\n",
        b"X: y\r\r\n\r\n",
        b"X: y\n\n",
        b"X : y\r\n\r\n",
        b" X: y\r\n\r\n",
        b"X: y\r\n folded\r\n\r\n",
        b"no colon\r\n\r\n",
        b": y\r\n\r\n",
        b"X: \x00\r\n\r\n",
        b"X: a\rb\r\n\r\n",
        b"0\r\n\r\n",
    ],
)
def test_trailers_are_as_strict_as_fields(trailers: bytes) -> None:
    assert_refused(b"0\r\n" + trailers)


def test_the_status_of_a_refusal_is_its_sides() -> None:
    for data in (b"x\r\n", b"1\r\nab", b"0\r\nno colon\r\n\r\n", b"0\r\n\n", b"x" * 5000):
        with pytest.raises(Malformed) as refused:
            ChunkedReader(LIMITS, status=502).feed(data)
        assert refused.value.status == 502


# Chunked: what has a bound.


def test_a_chunk_size_line_has_at_most_4096_bytes() -> None:
    fits = b"1;" + b"x" * 4092
    assert read(fits + b"\r\nA\r\n")[0] == b"A"
    assert_refused(fits + b"x\r\nA\r\n")


def test_an_endless_extension_is_refused_at_its_limit() -> None:
    assert bytes_until_refused(b"1;" + b"x" * 100_000) == 4096


def test_an_endless_line_is_not_held() -> None:
    with pytest.raises(Malformed):
        ChunkedReader(LIMITS).feed(b"1" * 100_000)


def test_long_extensions_on_tiny_chunks_are_refused() -> None:
    """Each of these lines has 1024 bytes more than the 16 that are free and the 2 that its data pays for."""
    chunk = b"1;" + b"x" * 1038 + b"\r\nA\r\n"
    assert read(b"1\r\nA\r\n" + chunk * 16)[0] == b"A" * 17
    assert_refused(chunk * 17)
    assert_refused(chunk * 16 + b"1;" + b"x" * 15 + b"\r\n")


def test_data_pays_for_extensions() -> None:
    chunk = b"400;" + b"x" * 1000 + b"\r\n" + b"A" * 1024 + b"\r\n"
    assert len(read(chunk * 100)[0]) == 1024 * 100


def test_the_smallest_chunks_need_no_excuse() -> None:
    assert read(b"1\r\nA\r\n" * 20_000)[0] == b"A" * 20_000


def test_the_trailer_section_has_the_heads_limit() -> None:
    limits = HeadLimits(head=100)
    fits = b"X: " + b"y" * 93 + b"\r\n\r\n"
    assert len(fits) == 100
    assert read(b"0\r\n" + fits, limits)[2].done
    assert_refused(b"0\r\nX: " + b"y" * 94 + b"\r\n\r\n", limits)


def test_endless_trailers_are_refused_at_their_limit() -> None:
    limits = HeadLimits(head=1000)
    assert bytes_until_refused(b"0\r\n" + b"X: y\r\n" * 10_000, limits) == 1003
    assert bytes_until_refused(b"0\r\n" + b"X" * 10_000, limits) == 1003


def test_trailers_have_the_heads_number_of_fields() -> None:
    limits = HeadLimits(fields=3)
    assert read(b"0\r\n" + b"X: y\r\n" * 3 + b"\r\n", limits)[2].done
    assert_refused(b"0\r\n" + b"X: y\r\n" * 4 + b"\r\n", limits)


# The reader of a framing.


@pytest.mark.parametrize(
    ("framing", "kind"),
    [
        (Framing(Body.NONE), type(None)),
        (Framing(Body.LENGTH, 0), type(None)),
        (Framing(Body.LENGTH, 5), LengthReader),
        (Framing(Body.CHUNKED), ChunkedReader),
        (Framing(Body.UNTIL_CLOSE), UntilCloseReader),
    ],
)
def test_each_framing_has_its_reader(framing: Framing, kind: type) -> None:
    assert type(body_reader(framing, LIMITS, 400)) is kind


@pytest.mark.parametrize("framing", [Framing(Body.LENGTH, 5), Framing(Body.CHUNKED)])
def test_a_reader_refuses_with_its_status(framing: Framing) -> None:
    reader = body_reader(framing, LIMITS, 502)
    assert reader is not None
    with pytest.raises(Malformed) as refused:
        reader.eof()
    assert refused.value.status == 502


def test_a_reader_has_its_limits() -> None:
    reader = body_reader(Framing(Body.CHUNKED), HeadLimits(fields=0), 400)
    assert reader is not None
    with pytest.raises(Malformed):
        reader.feed(b"0\r\nX: y\r\n\r\n")


# Encoding.


def test_a_chunk_has_its_size_in_front() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_no_data_is_no_chunk() -> None:
    """An empty chunk would be the last."""
    assert encode_chunk(b"") == b""


def test_the_last_chunk_without_trailers() -> None:
    assert encode_last(None) == b"0\r\n\r\n"
    assert encode_last(Fields([])) == b"0\r\n\r\n"


def test_the_last_chunk_with_trailers() -> None:
    assert encode_last(Fields([(b"X-Sum", b"a"), (b"grpc-status", b"0")])) == b"0\r\nX-Sum: a\r\ngrpc-status: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("reader", "fed", "expected"),
    [
        (LengthReader(5), b"he", "<LengthReader 3 left>"),
        (UntilCloseReader(), b"he", "<UntilCloseReader open>"),
        (ChunkedReader(LIMITS), b"", "<ChunkedReader SIZE, 0 left>"),
        (ChunkedReader(LIMITS), b"5\r\nhe", "<ChunkedReader DATA, 3 left>"),
    ],
)
def test_repr_tells_where_it_stands(reader: Any, fed: bytes, expected: str) -> None:
    reader.feed(fed)
    assert repr(reader) == expected
