"""Heads and framing: laws that hold whatever arrives."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.core.http.fields import Fields
from gproxy.core.http.framing import request_framing, response_framing
from gproxy.core.http.heads import (
    _httptools_fields,
    check_request_line,
    check_unfinished_request,
    check_unfinished_response,
    parse_request_rest,
    parse_response,
    parse_trailers,
)
from gproxy.core.http.messages import Body, HeadLimits, Malformed

LIMITS = HeadLimits()
FRAMING = (b"content-length", b"transfer-encoding")

TOKEN = bytes(byte for byte in range(0x21, 0x7F) if chr(byte) not in '"(),/:;<=>?@[\\]{}')
TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
VISIBLE = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
CONTROLS = [bytes([byte]) for byte in (*range(0x20), 0x7F)]


def some(alphabet: bytes, least: int, most: int = 20) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), min_size=least, max_size=most).map(bytes)


names = some(TOKEN, 1).filter(lambda name: name.lower() not in FRAMING)
values = some(TEXT, 0).map(lambda value: value.strip(b" \t"))
spaces = some(b" \t", 0, 2)
# A name, the white space on either side of the value, the value.
field_lines = st.lists(st.tuples(names, spaces, values, spaces), max_size=8)
Lines = list[tuple[bytes, bytes, bytes, bytes]]

# Close to a head, but mostly broken somewhere.
rough = st.lists(
    st.sampled_from([b"HTTP/1.1", b"GET / ", b"X", b":", b" ", b"\r\n", b"\r", b"\n", b"\t", b"\0", b"a", b"\xff",
                     b"200", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n"]), max_size=14
).map(b"".join)  # fmt: skip


def block(lines: Lines) -> bytes:
    return b"".join(name + b":" + left + value + right + b"\r\n" for name, left, value, right in lines) + b"\r\n"


def pairs(lines: Lines) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, value) for name, _, value, _ in lines)


def refused(call: object, *arguments: object) -> bool:
    """Any error but Malformed fails the test."""
    assert callable(call)
    try:
        call(*arguments)
    except Malformed:
        return True
    return False


# What is built from sound parts parses back to the same parts.


@given(some(TOKEN, 1), some(VISIBLE, 1), st.sampled_from([0, 1]), field_lines)
def test_a_request_parses_back_to_its_parts(method: bytes, target: bytes, minor: int, lines: Lines) -> None:
    check_request_line(method, target, LIMITS)
    parsed, fields = parse_request_rest(b"HTTP/1.%d\r\n" % minor + block(lines), LIMITS)
    assert (parsed, fields.lines) == (minor, pairs(lines))


@given(st.sampled_from([0, 1]), st.integers(100, 599), some(TEXT, 0), field_lines)
def test_a_response_parses_back_to_its_parts(minor: int, status: int, reason: bytes, lines: Lines) -> None:
    head = b"HTTP/1.%d %d %b\r\n" % (minor, status, reason) + block(lines)
    *start, fields = parse_response(head, LIMITS)
    assert (start, fields.lines) == ([minor, status, reason], pairs(lines))


# One byte changed or slipped in.


@given(field_lines, st.data(), st.sampled_from(CONTROLS), st.booleans())
@example([(b"X", b"", b"a", b"")], None, b"\t", True)
def test_a_control_character_is_refused_or_is_white_space(
    lines: Lines, data: st.DataObject | None, control: bytes, replaces: bool
) -> None:
    """Only HTAB can be sound, beside or inside a value: the fields stay what they were but for that value."""
    whole = b"HTTP/1.1\r\n" + block(lines)
    at = data.draw(st.integers(0, len(whole) - 1)) if data else len(whole) - 4
    broken = whole[:at] + control + whole[at + replaces :]
    if broken == whole:
        return
    try:
        parsed = parse_request_rest(broken, LIMITS)[1].lines
    except Malformed:
        return
    assert control == b"\t"
    assert [name for name, _ in parsed] == [name for name, _, _, _ in lines]
    changed = [(new, old) for (_, new), (_, old) in zip(parsed, pairs(lines), strict=True) if new != old]
    assert len(changed) <= 1
    assert all(len(new) - len(old) in (-1, 0, 1) or new in old for new, old in changed)


@given(rough)
@example(b"X:\r\n :\r\n\r\n")
def test_what_is_accepted_means_the_same_when_it_is_written_again(block: bytes) -> None:
    """Nothing but Malformed is raised, and the bytes that are accepted hold exactly the fields that are returned."""
    try:
        fields = parse_trailers(block, LIMITS)
    except Malformed:
        return
    again = b"".join(name + b":" + value + b"\r\n" for name, value in fields.lines) + b"\r\n"
    assert parse_trailers(again, LIMITS).lines == fields.lines
    assert again.translate(None, b" \t") == block.translate(None, b" \t")


# Lines that parsers read in the light of one another, and lines like them.
meaningful = st.lists(
    st.sampled_from([b"Content-Length: 5", b"content-length: 5", b"Content-Length: 6", b"Content_Length: 5",
                     b"Content-Length: 5, 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
                     b"transfer-encoding: identity", b"Connection: close", b"Connection: upgrade", b"Upgrade: a",
                     b"Proxy-Connection: x", b"X: a", b"X:", b" X: a", b"X : a", b"Host: a", b""]), max_size=6
).map(lambda lines: b"".join(line + b"\r\n" for line in lines) + b"\r\n")  # fmt: skip


def read_as_one(block: bytes) -> tuple[tuple[bytes, bytes], ...] | None:
    """What the expression and httptools read in the whole block alike; None where either refuses."""
    if not re.fullmatch(rb"(?:[%b]+:[%b]*\r\n)*\r\n" % (re.escape(TOKEN), re.escape(TEXT)), block):
        return None
    parts = [line.partition(b":") for line in block.split(b"\r\n")[:-2]]
    fields = tuple((name, value.strip(b" \t")) for name, _, value in parts)
    try:
        return fields if tuple(_httptools_fields(block, 400)) == fields else None
    except Malformed:
        return None


@given(rough | meaningful | field_lines.map(block))
def test_a_block_read_line_by_line_is_what_it_is_as_a_whole(block: bytes) -> None:
    """Nor does it matter whether its lines have come before."""
    for _ in range(2):
        try:
            fields = parse_trailers(block, LIMITS).lines
        except Malformed:
            assert read_as_one(block) is None
        else:
            assert fields == read_as_one(block)


@given(rough | st.binary())
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    refused(parse_request_rest, data, LIMITS)
    refused(parse_request_rest, b"HTTP/1.1\r\n" + data + b"\r\n\r\n", LIMITS)
    refused(parse_response, data, LIMITS)
    refused(parse_response, b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n", LIMITS)
    refused(check_request_line, data, data, LIMITS)


# Heads that have not ended.


@given(some(TOKEN, 1), some(VISIBLE, 1), field_lines)
def test_no_start_of_a_sound_request_is_refused(method: bytes, target: bytes, lines: Lines) -> None:
    """Not even under the tightest limits that the whole head keeps to."""
    line = method + b" " + target + b" HTTP/1.1"
    head = line + b"\r\n" + block(lines)
    limits = HeadLimits(request_line=len(line) + 1, head=len(head), fields=len(lines))
    check_request_line(method, target, limits)
    parse_request_rest(head[-len(block(lines)) - 10 :], limits)
    for end in range(head.index(b"\r\n\r\n") + 4):
        check_unfinished_request(head[:end], limits)


@given(some(TEXT, 0), field_lines)
def test_no_start_of_a_sound_response_is_refused(reason: bytes, lines: Lines) -> None:
    head = b"HTTP/1.1 200 " + reason + b"\r\n" + block(lines)
    limits = HeadLimits(head=len(head), fields=len(lines))
    parse_response(head, limits)
    for end in range(len(head)):
        check_unfinished_response(head[:end], limits)


@pytest.mark.parametrize("check", [check_unfinished_request, check_unfinished_response])
@given(st.lists(rough | st.binary(max_size=3), min_size=1, max_size=6))
def test_pieces_are_refused_exactly_when_the_whole_is(check: object, pieces: list[bytes]) -> None:
    """Telling how much was checked before changes the cost alone."""
    data = b""
    for piece in pieces:
        checked, data = len(data), data + piece
        verdict = refused(check, data, HeadLimits(request_line=40, head=60), checked)
        assert verdict == refused(check, data, HeadLimits(request_line=40, head=60))
        if verdict:
            return


# Framing.


@given(st.binary(max_size=6) | st.integers(0, 10**19).map(lambda number: b"%d" % number))
def test_a_length_is_what_its_digits_say(value: bytes) -> None:
    fields = Fields([(b"Content-Length", value)])
    good = value != b"" and set(value) <= set(b"0123456789") and int(value) < 2**63
    if good:
        assert request_framing(1, fields) == response_framing(200, 0, fields) == (Body.LENGTH, int(value))
    else:
        assert refused(request_framing, 1, fields)
        assert refused(response_framing, 200, 0, fields)


@given(
    st.lists(st.binary(max_size=3) | some(b"chunked,; \t\x0bCK", 5, 9) | st.just(b"chunked"), min_size=1, max_size=2)
)
def test_a_transfer_coding_is_chunked_or_refused(values: list[bytes]) -> None:
    fields = Fields((b"Transfer-Encoding", value) for value in values)
    if [value.lower() for value in values] == [b"chunked"]:
        assert request_framing(1, fields).body is Body.CHUNKED
    else:
        assert refused(request_framing, 1, fields)
        assert refused(response_framing, 200, 1, fields)
