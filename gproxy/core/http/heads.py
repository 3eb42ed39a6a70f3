"""Heads of requests and responses: what is not exactly RFC 9112's grammar is refused, never repaired.

The field lines are read twice, by a regular expression over the raw bytes and by httptools (llhttp). A line
that either refuses, or that they read differently, is malformed: another parser might read it differently too.
What was read is remembered by the line: of most heads, few lines or none are new.
"""

from __future__ import annotations

import re

import httptools

from gproxy.core.http.fields import FRAMING, FieldLine, Fields
from gproxy.core.http.messages import HeadLimits, Malformed
from gproxy.core.remembered import Remembered

_CR = 13
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"  # what a value or a reason may hold: no control character but HTAB

# The first matches as much as is sound and never fails; what follows a repeated class is never in that class.
# So matching is linear, whatever a client sends.
_UNFINISHED = re.compile(rb"(?:%b+|\r\n)*\r?" % _TEXT)
_FIELD_LINE = re.compile(rb"(%b):(%b*)" % (_TOKEN, _TEXT))
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: (%b*))?\r\n" % _TEXT)
_VISIBLE_BUT_HASH = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
_TOKEN_BYTES = bytes(byte for byte in range(128) if re.fullmatch(_TOKEN, bytes([byte])))

_USUAL_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})

# For a response, httptools leaves transfer codings to framing.py, and 200 can't be taken for an upgrade.
_START_LINE = b"HTTP/1.1 200 OK\r\n"


def check_unfinished_request(data: bytes, limits: HeadLimits, checked: int = 0) -> None:
    """Refuse the start of a request head, without its blank line yet, once no good head can come of it.

    The first `checked` bytes were accepted by an earlier call: they are not looked at again, so that a client
    that sends byte by byte costs no more than any other.
    """
    line_end = limits.request_line + 1
    if len(data) >= line_end and data.find(b"\r\n", 0, line_end) < 0:
        raise Malformed(414, "the request line is too long")
    if len(data) >= limits.head:
        raise Malformed(431, "the request head is too long")
    _check_unfinished(data, checked, 400)


def check_unfinished_response(data: bytes, limits: HeadLimits, checked: int = 0) -> None:
    """The same for a response head, which has no limit for its first line."""
    if len(data) >= limits.head:
        raise Malformed(502, "the response head is too long")
    _check_unfinished(data, checked, 502)


def _check_unfinished(data: bytes, checked: int, status: int) -> None:
    start = checked - 1 if checked and data[checked - 1] == _CR else checked  # a last CR was accepted on trust
    sound = _UNFINISHED.match(data, start)
    if sound is None or sound.end() != len(data):
        raise Malformed(status, "a control character, or a CR or LF on its own, in the head")


def check_request_line(method: bytes, target: bytes, limits: HeadLimits) -> None:
    """Runs on every request: a usual method needs no look at its bytes, and `translate` beats an expression."""
    if len(method) + len(target) + 11 > limits.request_line:
        raise Malformed(414, "the request line is too long")
    if method not in _USUAL_METHODS and (not method or method.translate(None, _TOKEN_BYTES)):
        raise Malformed(400, "the method is not a token")
    if not target or target.translate(None, _VISIBLE_BUT_HASH):
        raise Malformed(400, "the target is empty, or has a fragment or a character that needs encoding")


def parse_request_rest(rest: bytes, limits: HeadLimits) -> tuple[int, Fields]:
    """The minor version and the fields of a request head, from its version to its blank line."""
    version = _VERSION.match(rest)
    if version is None:
        raise Malformed(400, "the request line does not end in an HTTP version")
    major, minor = version.groups()
    if major != b"1":
        raise Malformed(505, "the HTTP version is not 1.0 or 1.1")
    if len(rest) > limits.head:
        raise Malformed(431, "the request head is too long")
    block = rest[version.end() :]
    if _lines(block) > limits.fields:
        raise Malformed(431, "the request head has too many fields")
    return min(int(minor), 1), _parse_fields(block, 400)


def parse_response(head: bytes, limits: HeadLimits) -> tuple[int, int, bytes, Fields]:
    """The minor version, status, reason and fields of a response head, with its blank line."""
    start = _STATUS_LINE.match(head)
    if start is None:
        raise Malformed(502, "the response does not start with an HTTP/1.x status line")
    if len(head) > limits.head:
        raise Malformed(502, "the response head is too long")
    minor, status, reason = start.groups(b"")
    fields = _parse_limited(head[start.end() :], limits, 502)
    return min(int(minor), 1), int(status), reason, fields


def parse_trailers(block: bytes, limits: HeadLimits, status: int = 400) -> Fields:
    """The trailer fields of a chunked body, with the blank line after them. `status` is that of every refusal."""
    if len(block) > limits.head:
        raise Malformed(status, "the trailer section is too long")
    return _parse_limited(block, limits, status)


def _parse_limited(block: bytes, limits: HeadLimits, status: int) -> Fields:
    if _lines(block) > limits.fields:
        raise Malformed(status, "too many fields")
    return _parse_fields(block, status)


def _lines(block: bytes) -> int:
    """How many field lines a block has, its blank line left out."""
    return block.count(b"\r\n") - 1


def _parse_fields(block: bytes, status: int) -> Fields:
    """The fields of a block: its field lines and the blank line after them, nothing else."""
    lines = block.split(b"\r\n")
    if lines.pop() or not lines or lines.pop():
        lines.append(b"")  # there is no blank line at the end: after the sound ones, a line is missing
    found = []
    framing = 0
    line: FieldLine
    for number, raw in enumerate(lines, 1):
        line = _KNOWN.get(raw) or _read_line(raw, number, status)
        if line.canonical in FRAMING:
            framing += 1
        found.append(line)
    fields = Fields(known=found)
    # They are the ones that a parser reads in the light of one another.
    if framing > 1 and _httptools_fields(block, status) != list(fields.lines):
        raise Malformed(status, "the fields can be read in two ways")
    return fields


def _read_line(raw: bytes, number: int, status: int) -> FieldLine:
    sound = _FIELD_LINE.fullmatch(raw)
    if sound is None:
        raise Malformed(status, f"field line {number} is not `name: value`")
    name, value = sound.groups()
    line = FieldLine(name, value.strip(b" \t"))
    if _httptools_fields(raw + b"\r\n\r\n", status) != [(line.name, line.value)]:
        raise Malformed(status, "the fields can be read in two ways")
    if len(raw) <= _LONGEST_KNOWN:
        _KNOWN.keep(raw, line)
    return line


_LONGEST_KNOWN = 256  # bytes of a line: together with how many are known, it bounds what clients can make us keep
_KNOWN: Remembered[bytes, FieldLine] = Remembered(1024)


def _httptools_fields(block: bytes, status: int) -> list[tuple[bytes, bytes]]:
    collected = _Collector()
    try:
        httptools.HttpResponseParser(collected).feed_data(_START_LINE + block)
    except httptools.HttpParserError as error:
        raise Malformed(status, f"refused by the parser: {error}") from None
    if not collected.complete:
        raise Malformed(status, "the head does not end where its blank line is")
    return collected.fields


class _Collector:
    """httptools calls these as it reads."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True
