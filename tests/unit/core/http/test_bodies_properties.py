"""Bodies: laws that hold whatever arrives, and in whatever pieces.

A slow reader of the whole, `decode`, says what the chunked coding means. Both must agree on anything.
"""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from gproxy.core.http.bodies import (
    BodyReader,
    ChunkedReader,
    LengthReader,
    UntilCloseReader,
    encode_chunk,
    encode_last,
)
from gproxy.core.http.fields import Fields
from gproxy.core.http.heads import parse_trailers
from gproxy.core.http.messages import HeadLimits, Malformed

LIMITS = HeadLimits()
SMALL = HeadLimits(head=120, fields=3)
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~]*)?\r\n")
Lines = tuple[tuple[bytes, bytes], ...]


class Reading(NamedTuple):
    """What became of some bytes."""

    body: bytes
    consumed: int
    outcome: str  # done, more, refused
    trailers: Lines = ()


def decode(data: bytes, limits: HeadLimits) -> Reading:
    """The chunked coding, read slowly and all at once; bounds on what is unfinished left out."""
    body, at = b"", 0
    while True:
        end = data.find(b"\n", at) + 1
        if not end:
            return Reading(body, len(data), "more")
        line = SIZE_LINE.fullmatch(data[at:end])
        if not line:
            return Reading(body, 0, "refused")
        at, size = end, int(line[1], 16)
        if not size:
            return decode_trailers(body, data, at, limits)
        body += data[at : at + size]
        at += size
        if not b"\r\n".startswith(data[at : at + 2]):
            return Reading(body, 0, "refused")
        at += 2
        if at > len(data):
            return Reading(body, len(data), "more")


def decode_trailers(body: bytes, data: bytes, start: int, limits: HeadLimits) -> Reading:
    at = start
    while end := data.find(b"\n", at) + 1:
        line, at = data[at:end], end
        if not re.fullmatch(rb"[^\r\n]*\r\n", line) or at - start > limits.head:
            return Reading(body, 0, "refused")
        if line == b"\r\n":
            return decode_fields(body, data[start:at], at, limits)
    return Reading(body, len(data), "more" if len(data) - start < limits.head else "refused")


def decode_fields(body: bytes, block: bytes, at: int, limits: HeadLimits) -> Reading:
    try:
        return Reading(body, at, "done", parse_trailers(block, limits).lines)
    except Malformed:
        return Reading(body, 0, "refused")


def read(reader: BodyReader, parts: Iterable[bytes]) -> Reading:
    """Feed parts until the body ends; the bytes of pieces handed out before a refusal count too."""
    body, consumed = b"", 0
    for part in parts:
        try:
            pieces, used = reader.feed(part)
        except Malformed:
            return Reading(body, 0, "refused")
        assert all(pieces)
        assert used == len(part) or reader.done
        body += b"".join(pieces)
        consumed += used
        if reader.done:
            return Reading(body, consumed, "done", trailers_of(reader))
    return Reading(body, consumed, "more")


def trailers_of(reader: BodyReader) -> Lines:
    trailers = reader.trailers if isinstance(reader, ChunkedReader) else None
    return trailers.lines if trailers else ()


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
DATA = st.binary(min_size=1, max_size=40)
EXTENSIONS = st.sampled_from([b"", b"", b"", b";x", b' ;a="b;c"', b";" + b"y" * 50])
FIELD_LINES = st.sampled_from([b"X-Sum: 1\r\n", b"Y:\r\n", b"Zed: a b\t\r\n", b"x-sum: \xff\r\n"])


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """A good chunked body, written in one of the ways there are."""
    parts = []
    for data in [*draw(st.lists(DATA, max_size=6)), b""]:
        size = b"%x" % len(data)
        zeros = b"0" * draw(st.sampled_from([0, 0, 1, 15 - len(size)]))
        parts += [zeros, draw(st.sampled_from([size, size.upper()])), draw(EXTENSIONS), b"\r\n", data]
        parts += [b"\r\n"] if data else []
    return b"".join([*parts, *draw(st.lists(FIELD_LINES, max_size=4)), b"\r\n"])


@st.composite
def nearly_chunked(draw: st.DrawFn) -> bytes:
    """A good body with a byte or some bytes changed, inserted or left out, and something behind it."""
    data = bytearray(draw(chunked()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        odd = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"0", b"5", b" ", b";", b"x", b"+", b":", b"\x00", b"_"])
        )
        data[at : at + draw(st.integers(0, 2))] = odd
    return bytes(data) + draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"0\r\n\r\n"]))


@given(nearly_chunked(), CUTS, st.sampled_from([LIMITS, SMALL]))
@example(b"5\r\nhello\r\n0\r\n\r\n", [], LIMITS)
@example(b"5\r\nhello\r\n0\r\nX: y\r\n\r\nmore", list(range(40)), LIMITS)
@example(b"5\r\nhello\r\r\n0\r\n\r\n", [9], LIMITS)
@settings(max_examples=400)
def test_any_split_reads_as_the_whole_does(data: bytes, cuts: list[int], limits: HeadLimits) -> None:
    expected = decode(data, limits)
    event(expected.outcome)
    for parts in ([data], split(data, cuts), byte_by_byte(data)):
        actual = read(ChunkedReader(limits), parts)
        if expected.outcome == "refused":
            assert actual.outcome == "refused"
            assert expected.body.startswith(actual.body)
        else:
            assert actual == expected


@given(st.lists(st.sampled_from([b"0", b"1", b"a", b";", b" ", b"\r", b"\n", b"\r\n", b"x", b":"]), max_size=24), CUTS)
@settings(max_examples=400)
def test_whatever_arrives_reads_as_the_slow_reader_says(tokens: list[bytes], cuts: list[int]) -> None:
    data = b"".join(tokens)
    expected, actual = decode(data, LIMITS), read(ChunkedReader(LIMITS), split(data, cuts))
    assert (actual.outcome, actual.consumed) == (expected.outcome, expected.consumed)


@given(chunked(), st.binary(max_size=30), CUTS)
def test_a_good_body_is_never_refused_and_what_follows_is_left(message: bytes, after: bytes, cuts: list[int]) -> None:
    reading = read(ChunkedReader(LIMITS), split(message + after, cuts))
    assert (reading.outcome, reading.consumed) == ("done", len(message))


@given(chunked(), st.data())
def test_a_body_that_is_cut_short_never_looks_whole(message: bytes, data: st.DataObject) -> None:
    reader = ChunkedReader(LIMITS)
    reader.feed(message[: data.draw(st.integers(0, len(message) - 1))])
    with pytest.raises(Malformed):
        reader.eof()


@given(st.lists(st.binary(max_size=40)), st.lists(st.sampled_from([b"x-a", b"X-B"])), CUTS)
def test_what_is_encoded_reads_back(pieces: list[bytes], names: list[bytes], cuts: list[int]) -> None:
    trailers = Fields([(name, b"v") for name in names])
    message = b"".join([*map(encode_chunk, pieces), encode_last(trailers)])
    expected = Reading(b"".join(pieces), len(message), "done", trailers.lines)
    assert read(ChunkedReader(LIMITS), split(message, cuts)) == expected


@given(st.binary(max_size=60), st.integers(0, 80), CUTS)
def test_a_length_takes_its_bytes_and_no_more(data: bytes, length: int, cuts: list[int]) -> None:
    reader = LengthReader(length)
    reading = read(reader, split(data, cuts)) if length else read(reader, [data])
    assert (reading.body, reading.consumed) == (data[:length], min(length, len(data)))
    assert reader.remaining == max(0, length - len(data))


@given(st.binary(max_size=60), CUTS)
def test_until_close_takes_all_bytes(data: bytes, cuts: list[int]) -> None:
    assert read(UntilCloseReader(), split(data, cuts)) == Reading(data, len(data), "more")


# What a sender can cost us.


class Counted(bytes):
    """Counts the bytes that are looked at, or copied."""

    cost = 0

    def find(self, sub: bytes, start: int = 0, end: int = sys.maxsize) -> int:  # type: ignore[override]
        found = super().find(sub, start, end)
        Counted.cost += (min(end, len(self)) if found < 0 else found) - start
        return found

    def __getitem__(self, key: slice) -> bytes:  # type: ignore[override]
        part = super().__getitem__(key)
        Counted.cost += len(part)
        return Counted(part)

    def __radd__(self, before: bytes | bytearray) -> Counted | bytearray:
        """Bytes are copied for it, a bytearray grows (`+=` asks here too)."""
        if isinstance(before, bytearray):
            Counted.cost += len(self)
            before.extend(self)
            return before
        Counted.cost += len(before) + len(self)
        return Counted(b"".join((before, self)))


HOSTILE = [
    b"1\r\nA\r\n" * 10_000,
    b"1;" + b"x" * 4000 + b"\r\nA\r\n",
    b"0\r\n" + b"X" * 60_000,
    b"0\r\n" + b"X: y\r\n" * 9_000,
    b"ffffff\r\n" + b"A" * 100_000,
]


@pytest.mark.parametrize("data", HOSTILE)
@pytest.mark.parametrize("size", [1, 2, 7, 1000, 65536])
def test_each_byte_is_looked_at_a_few_times_in_any_pieces(data: bytes, size: int) -> None:
    Counted.cost = 0
    reader = ChunkedReader(LIMITS)
    for at in range(0, len(data), size):
        reader.feed(Counted(data[at : at + size]))
    assert Counted.cost <= 5 * len(data)


@pytest.mark.parametrize("data", [b"0\r\n" + b"X: y\r\n" * 9_000, b"0\r\n" + b"X" * 60_000, b"1\r\nA\r\n" * 10_000])
def test_memory_is_bounded_by_the_limits(data: bytes) -> None:
    """Byte by byte, and for as many bytes as come; the limit is the head's."""
    reader = ChunkedReader(HeadLimits(head=2000))
    tracemalloc.start()
    try:
        for byte in byte_by_byte(data):
            reader.feed(byte)
    except Malformed:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000
