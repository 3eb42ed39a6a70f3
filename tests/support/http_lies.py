"""Responses whose end two readers may see in different places, and what a client may be told of each.

HONEST is what the origin means to say; SMUGGLED is a response that nobody asked for, and must
reach nobody. NNNN stands for a number that the test gives it when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.support.http_origin import DATE

HONEST = b"honest-NNNN"
DATED = b"Date: " + DATE  # a head without it is never served the plain way
SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n%s\r\n\r\nsmuggled-NNNN" % DATED
SIZE = len(HONEST)


class LyingAnswer(NamedTuple):
    """`bodies`: those that may reach the client as a whole response; none: it gets an error, or a broken response."""

    name: str
    raw: bytes
    bodies: tuple[bytes, ...] = ()
    then: str = "keep"  # keep | close | reset: what the origin does with the connection
    method: bytes = b"GET"
    afterwards: bytes = b""  # sent when the client has its response

    def numbered(self, number: int) -> LyingAnswer:
        digits = b"%04d" % number
        return self._replace(
            raw=self.raw.replace(b"NNNN", digits),
            bodies=tuple(body.replace(b"NNNN", digits) for body in self.bodies),
            afterwards=self.afterwards.replace(b"NNNN", digits),
        )


def lying_answers() -> list[LyingAnswer]:
    """All of them, each with a name of its own."""
    sources = (surplus, bodiless, lengths, codings, chunks, broken_off, heads)
    return [lie for source in sources for lie in source()]


def answer(*lines: bytes, body: bytes = HONEST, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *lines, DATED, b"", b""]) + body


LENGTH = b"Content-Length: %d" % SIZE
CHUNKED = b"Transfer-Encoding: chunked"
AS_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, HONEST)
BY_LENGTH = answer(LENGTH)
BY_CHUNKS = answer(CHUNKED, body=AS_CHUNK)


def surplus() -> Iterator[LyingAnswer]:
    """A good response, and bytes after it."""
    good = (HONEST,)
    interim = b"HTTP/1.1 100 Continue\r\n%s\r\n"
    for name, raw in (("length", BY_LENGTH), ("chunks", BY_CHUNKS)):
        yield LyingAnswer(f"response after {name}", raw + SMUGGLED, good)
        yield LyingAnswer(f"byte after {name}", raw + b"X", good)
        yield LyingAnswer(f"CRLF after {name}", raw + b"\r\n", good)
        yield LyingAnswer(f"half a response after {name}", raw + SMUGGLED[:20], good)
        yield LyingAnswer(f"1 MiB after {name}", raw + bytes(1 << 20), good)
        yield LyingAnswer(f"response after {name}, then the end", raw + SMUGGLED, good, "close")
        yield LyingAnswer(f"response after {name}, later", raw, good, afterwards=SMUGGLED)
        yield LyingAnswer(f"byte after {name}, later", raw, good, afterwards=b"H")
        yield LyingAnswer(
            f"interim response after {name}, later", raw, good, afterwards=b"HTTP/1.1 100 Continue\r\n\r\n"
        )
    yield LyingAnswer("response after an empty one", answer(b"Content-Length: 0", body=SMUGGLED), (b"",))
    yield LyingAnswer("response after one that closes", answer(LENGTH, b"Connection: close") + SMUGGLED, good)
    yield LyingAnswer("interim response with a length", interim % b"Content-Length: 5\r\n" + BY_LENGTH + SMUGGLED, good)
    yield LyingAnswer("interim response with a coding", interim % (CHUNKED + b"\r\n") + BY_LENGTH + SMUGGLED, good)
    yield LyingAnswer("many interim responses", interim % b"X: y\r\n" * 50 + BY_LENGTH + SMUGGLED, good)


def bodiless() -> Iterator[LyingAnswer]:
    """Bodies where none may be."""
    none = (b"",)
    for status in (b"204 No Content", b"304 Not Modified"):
        start = b"HTTP/1.1 " + status
        name = status.decode()
        yield LyingAnswer(f"{name} with a response", answer(body=SMUGGLED, start=start), none)
        yield LyingAnswer(f"{name} with a length", answer(LENGTH, body=SMUGGLED, start=start), none)
        yield LyingAnswer(f"{name} with chunks", answer(CHUNKED, body=AS_CHUNK + SMUGGLED, start=start), none)
    yield LyingAnswer("HEAD answered with a body", answer(LENGTH, body=SMUGGLED), none, method=b"HEAD")
    yield LyingAnswer("HEAD answered with chunks", answer(CHUNKED, body=AS_CHUNK + SMUGGLED), none, method=b"HEAD")
    start = b"HTTP/1.1 101 Switching Protocols"
    yield LyingAnswer(
        "upgrade without being asked", answer(b"Connection: upgrade", b"Upgrade: x", body=SMUGGLED, start=start)
    )
    yield LyingAnswer("upgrade to nothing", answer(body=SMUGGLED, start=start))


def lengths() -> Iterator[LyingAnswer]:
    """Content-Length badly written, or with another."""
    bad = (
        b"+%d", b"-%d", b"0x%x", b"%d.0", b"%d 0", b"%d, 0", b"0, %d", b"%d_0", b"%d\x00", b"%d\x0b", b"", b"%d,",
        b"abc", b"%d;", b"\xa0%d", b"1e%d", b'"%d"', b"-1",
    )  # fmt: skip
    for value in bad:
        line = b"Content-Length: " + (value % SIZE if b"%" in value else value)
        yield LyingAnswer(f"length {_show(value)}", answer(line, body=HONEST + SMUGGLED), then="close")
    huge = b"Content-Length: %d" % (2**64 + SIZE)
    yield LyingAnswer("length 2^64 too much", answer(huge, body=HONEST + SMUGGLED), then="close")
    for first, second in ((0, SIZE), (SIZE, 0), (SIZE, SIZE + len(SMUGGLED))):
        lines = [b"Content-Length: %d" % size for size in (first, second)]
        yield LyingAnswer(f"lengths {first} and {second}", answer(*lines, body=HONEST + SMUGGLED))
    yield LyingAnswer("lengths equal", answer(LENGTH, LENGTH, body=HONEST + SMUGGLED), (HONEST,))
    yield LyingAnswer("lengths equal in a list", answer(b"Content-Length: 11, 11", body=HONEST + SMUGGLED), (HONEST,))


def codings() -> Iterator[LyingAnswer]:
    """Transfer-Encoding that is not `chunked` alone, or not alone. Without chunks a body goes on to the end."""
    by_chunks, by_end = AS_CHUNK + SMUGGLED, (AS_CHUNK + SMUGGLED,)
    bad = (
        b"xchunked",
        b"chunked\x0b",
        b"\x0bchunked",
        b"chunked\x00",
        b"chunked, chunked",
        b'"chunked"',
        b"",
        b"chunked;",
    )
    for value in bad:
        line = b"Transfer-Encoding: " + value
        yield LyingAnswer(f"coding {_show(value)}", answer(line, body=by_chunks), then="close")
        yield LyingAnswer(f"coding {_show(value)} with length", answer(line, LENGTH, body=HONEST + SMUGGLED))
    for value in (b"identity", b"gzip", b"chunked, identity", b"gzip, chunked"):
        line = b"Transfer-Encoding: " + value
        yield LyingAnswer(f"coding {_show(value)}", answer(line, body=by_chunks), by_end, then="close")
    both = answer(b"Content-Length: %d" % len(AS_CHUNK + SMUGGLED), CHUNKED, body=by_chunks)
    yield LyingAnswer("both, chunks end", both, (HONEST,))
    both = answer(CHUNKED, b"Content-Length: 0", body=AS_CHUNK)
    yield LyingAnswer("both, length ends", both, (HONEST,))
    for name in (b"Transfer-Encoding ", b"Transfer-Encoding\t", b"\x0bTransfer-Encoding", b"Transfer-Encoding\x00"):
        yield LyingAnswer(f"coding named {_show(name)}", answer(LENGTH, name + b": chunked", body=by_chunks))
    old = b"HTTP/1.0 200 OK"
    yield LyingAnswer("HTTP/1.0 with chunks", answer(CHUNKED, body=by_chunks, start=old), then="close")
    kept = answer(CHUNKED, LENGTH, b"Connection: keep-alive", body=by_chunks, start=old)
    yield LyingAnswer("HTTP/1.0 with both", kept, then="close")


def chunks() -> Iterator[LyingAnswer]:
    """Bad chunk syntax: the head may be under way by then, and the response is broken off."""
    honest = b"%x\r\n%s\r\n" % (SIZE, HONEST)
    bad = (
        b"+%x", b"-%x", b"0x%x", b" %x", b"%x\x00", b"g", b"", b"%x\n", b"%x_", b"-0", b"%x;a\n", b"%x;\x00",
        b"%x\r\r", b";", b"\xa0%x",
    )  # fmt: skip
    for value in bad:
        size = value % len(SMUGGLED) if b"%x" in value else value
        body = honest + size + b"\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"
        yield LyingAnswer(f"chunk size {_show(value)}", answer(CHUNKED, body=body))
    huge = honest + b"%x\r\n" % (2**64 + len(SMUGGLED)) + SMUGGLED + b"\r\n0\r\n\r\n"
    yield LyingAnswer("chunk size 2^64 too much", answer(CHUNKED, body=huge))
    for end in (b"", b"\n", b"\r", b"X\r\n", b"\r\n\r\n", b"\r\r\n", b" \r\n"):
        body = b"%x\r\n%s%s0\r\n\r\n" % (SIZE, HONEST, end) + SMUGGLED
        yield LyingAnswer(f"chunk end {_show(end)}", answer(CHUNKED, body=body))
    for last in (
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
    ):
        yield LyingAnswer(f"chunks' end {_show(last)}", answer(CHUNKED, body=honest + last + SMUGGLED))
    good = answer(CHUNKED, body=honest + b"0\r\nContent-Length: 5\r\n\r\n" + SMUGGLED)
    yield LyingAnswer("chunks' trailer with a length", good, (HONEST,))


def broken_off() -> Iterator[LyingAnswer]:
    """Responses that end too early."""
    for then in ("close", "reset"):
        yield LyingAnswer(f"nothing, then {then}", b"", then=then)
        yield LyingAnswer(f"half a status line, then {then}", b"HTTP/1.", then=then)
        yield LyingAnswer(f"half a head, then {then}", b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n", then=then)
        yield LyingAnswer(f"head without its body, then {then}", answer(LENGTH, body=b""), then=then)
        yield LyingAnswer(f"half a body, then {then}", BY_LENGTH[:-4], then=then)
        yield LyingAnswer(f"half the chunks, then {then}", BY_CHUNKS[:-11], then=then)
        yield LyingAnswer(f"chunks without their end, then {then}", BY_CHUNKS[:-5], then=then)
        yield LyingAnswer(f"chunks without the last CRLF, then {then}", BY_CHUNKS[:-2], then=then)
        yield LyingAnswer(f"interim response, then {then}", b"HTTP/1.1 103 Early Hints\r\n\r\n", then=then)
    yield LyingAnswer("body up to a reset", answer(), then="reset")


def heads() -> Iterator[LyingAnswer]:
    """What is no head of a response, or hides a field from one reader."""
    starts = (
        b"HTP/1.1 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 2x0 OK", b"HTTP/2.0 200 OK",
        b"HTTP/1.1", b"HTTP/1.1  200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1 200 \x00", b"HTTP/1.1\t200 OK",
        b"http/1.1 200 OK", b"200 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 200 OK\rX: y", b"HTTP/1.1 -200 OK",
        b"GET / HTTP/1.1", b"ICY 200 OK", b"HTTP/11 200 OK",
    )  # fmt: skip
    for start in starts:
        yield LyingAnswer(f"start {_show(start)}", answer(LENGTH, start=start) + SMUGGLED, then="close")
    fields = (
        b"X",
        b": y",
        b"X : y",
        b"X\x00: y",
        b"X: \x00",
        b"X: a\rb",
        b"X: \x01",
        b"X Y: z",
        b"X: y\rContent-Length: 0",
    )
    for line in fields:
        yield LyingAnswer(f"field {_show(line)}", answer(LENGTH, line) + SMUGGLED, then="close")
    yield LyingAnswer("text without a head", HONEST + b"\r\n\r\n" + SMUGGLED, then="close")
    yield LyingAnswer("space before the first field", answer(b" " + LENGTH) + SMUGGLED, then="close")
    yield LyingAnswer("head of 200 KiB", answer(b"X: " + b"y" * 200_000, LENGTH), (HONEST,))
    yield LyingAnswer("2000 fields", answer(*[b"X: y"] * 2000, LENGTH), (HONEST,))
    hidden = (
        (
            "LF hides the coding",
            answer(LENGTH, b"X: y\nTransfer-Encoding: chunked", body=AS_CHUNK + SMUGGLED),
            (HONEST,),
        ),
        ("fold hides the length", answer(b"Content-Length:\r\n 11") + SMUGGLED, (HONEST,)),
        ("every line ends with LF", BY_LENGTH.replace(b"\r\n", b"\n") + SMUGGLED, (HONEST,)),
        ("head ends with LF", answer(LENGTH, body=b"")[:-2] + b"\n" + HONEST + SMUGGLED, (HONEST,)),
    )
    for name, raw, bodies in hidden:
        yield LyingAnswer(name, raw, bodies)


def _show(value: bytes) -> str:
    return value.decode("latin-1").encode("unicode_escape").decode() or "empty"
