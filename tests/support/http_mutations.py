"""Requests whose end two readers may see in different places, and what may become of each.

Each carries SMUGGLED, which no client means to ask for: one of the readings takes it for a
request of its own. NNNN, in the target and in SMUGGLED, stands for a number that the test
gives it when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MARK = b"/mark-NNNN"
SMUGGLED = b"GET /smuggled-NNNN HTTP/1.1\r\nHost: origin\r\n\r\n"
SIZE = len(SMUGGLED)


class Mutation(NamedTuple):
    """`bodies` are those that an origin may read if it is forwarded; none: it must be refused."""

    name: str
    raw: bytes
    bodies: tuple[bytes, ...] = ()

    @property
    def method(self) -> bytes:
        """What the answer is an answer to."""
        return self.raw.lstrip(b"\r\n").partition(b" ")[0]

    def numbered(self, number: int) -> Mutation:
        digits = b"%04d" % number
        bodies = tuple(body.replace(b"NNNN", digits) for body in self.bodies)
        return Mutation(self.name, self.raw.replace(b"NNNN", digits), bodies)


def mutations() -> list[Mutation]:
    """All of them, each with a name of its own."""
    sources = (
        lengths, length_names, two_lengths, codings, coding_names, both, chunk_sizes, chunk_ends, last_chunks,
        trailers, versions, request_lines, line_ends, fields, hosts, methods, hop_by_hop,
    )  # fmt: skip
    return [mutation for source in sources for mutation in source()]


# --- what they are made of --------------------------------------------------------------


def post(
    *lines: bytes, body: bytes, start: bytes = b"POST /mark-NNNN HTTP/1.1", host: bytes = b"Host: origin"
) -> bytes:
    return b"\r\n".join([start, *([host] if host else []), *lines, b"", b""]) + body


def chunked(data: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    return b"%x\r\n%s\r\n%s" % (len(data), data, last)


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % SIZE
AS_CHUNK = chunked(SMUGGLED)
AFTER_CHUNKS = b"0\r\n\r\n" + SMUGGLED
LENGTH_OF_ALL = b"Content-Length: %d" % len(AFTER_CHUNKS)  # a reader of chunks sees SMUGGLED after the end
LENGTH_OF_SIZE_LINE = b"Content-Length: %d" % len(b"%x\r\n" % SIZE)  # a reader of lengths does


def show(value: bytes) -> str:
    return value.decode("latin-1").encode("unicode_escape").decode() or "empty"


# --- Content-Length ---------------------------------------------------------------------

_LENGTHS_MEANT = (b"%d", b"  %d", b"\t%d", b"%d \t ", b"000%d")
_LENGTHS_REFUSED = (
    b"", b"\t", b"+%d", b"-%d", b"--%d", b"0x%x", b"0X%X", b"%xh", b"0o%o", b"%d.0", b"%de0", b"%d;", b'"%d"',
    b"'%d'", b"%d 0", b"0 %d", b"%d,0", b"0,%d", b"%d, 0", b"%d,", b",%d", b"%d\x0b", b"\x0b%d", b"\x0c%d", b"%d\x00",
    b"\x00%d", b"%d\xa0", b"\xa0%d", b"%d\x85", b"%d_0", b"_%d", b"0_%d", b"%d#", b"%d//", b"%d chunked", b"\r%d",
    b"%d\rX: y", b"(%d)", b"%d=", b"1e%d", b"NaN", b"infinity", b"%d\x7f", b"%d\x1f", b"\xef\xbb\xbf%d",
)  # fmt: skip


def lengths() -> Iterator[Mutation]:
    """One Content-Length, well or badly written."""
    for value in _LENGTHS_MEANT:
        yield Mutation(f"length {show(value)}", _length(value), (SMUGGLED,))
    for value in _LENGTHS_REFUSED:
        yield Mutation(f"length {show(value)}", _length(value))
    for power in (64, 65, 128):
        yield Mutation(f"length 2^{power} too much", _length(b"%d" % (2**power + SIZE)))
    wide = "".join(chr(ord("\uff10") + int(digit)) for digit in str(SIZE)).encode()
    yield Mutation("length in full-width digits", _length(wide))
    yield Mutation("length of spaces and zeros", _length(b" " * 300 + b"0" * 5 + b"%d"), (SMUGGLED,))
    yield Mutation("length 30 zeros", _length(b"0" * 30 + b"%d"), (SMUGGLED,))


def _length(value: bytes) -> bytes:
    if b"%" in value:
        value %= SIZE
    return post(b"Content-Length: " + value, body=SMUGGLED)


# `%s` stands where the name would.
_BAD_NAMES = (
    b"%s ", b"%s\t", b" %s", b"\t%s", b"%s\x00", b"\x00%s", b"%s\x0b", b"\x0b%s", b"\x0c%s", b"%s\r", b"\r%s",
    b"%s\xa0", b"\xa0%s", b'"%s"', b"(%s)", b"%s;", b":%s", b"X %s", b"%s X", b"X\x00%s", b"\xef\xbb\xbf%s",
    b"%s\x7f", b"X: y\x00\r%s", b"%s,", b"%s[]", b"{%s}", b"%s=", b"%s@",
)  # fmt: skip
_OTHER_NAMES = (b"X-%s", b"%s-X", b"%s_", b"'%s'", b"%s.", b"`%s`", b"!%s")  # tokens, and so fields of their own


def length_names() -> Iterator[Mutation]:
    """What is not Content-Length, and looks like it."""
    for name in _BAD_NAMES:
        line = name % b"Content-Length" + b": %d" % SIZE
        yield Mutation(f"length named {show(name)}", post(line, body=SMUGGLED))
    for name in _OTHER_NAMES:
        line = name % b"Content-Length" + b": 0"
        yield Mutation(f"length and {show(name)}", post(LENGTH, line, body=SMUGGLED), (SMUGGLED,))
    for name in (b"content-length", b"CONTENT-LENGTH", b"cOnTeNt-LeNgTh"):
        yield Mutation(f"length named {show(name)}", post(name + b": %d" % SIZE, body=SMUGGLED), (SMUGGLED,))
    yield Mutation("length and underscore", post(LENGTH, b"Content_Length: 0", body=SMUGGLED), (SMUGGLED,))
    for line in (
        b"Content-Length",
        b"Content-Length=%d" % SIZE,
        b"Content-Length %d" % SIZE,
        b"Content-Length;%d" % SIZE,
    ):
        yield Mutation(f"length without colon {show(line)}", post(line, body=SMUGGLED))


def two_lengths() -> Iterator[Mutation]:
    """Several lengths; equal ones may be made one (RFC 9112 6.3)."""
    zero, whole = b"Content-Length: 0", LENGTH
    equal = (SMUGGLED,)
    yield Mutation("lengths 0 and all", post(zero, whole, body=SMUGGLED))
    yield Mutation("lengths all and 0", post(whole, zero, body=SMUGGLED))
    yield Mutation("lengths 0, X and all", post(zero, b"X: y", whole, body=SMUGGLED))
    yield Mutation("lengths of another case", post(b"content-length: 0", whole, body=SMUGGLED))
    yield Mutation("lengths all, all and 0", post(whole, whole, zero, body=SMUGGLED))
    yield Mutation("lengths all and empty", post(whole, b"Content-Length:", body=SMUGGLED))
    yield Mutation("lengths empty and all", post(b"Content-Length: ", whole, body=SMUGGLED))
    yield Mutation("lengths all and +all", post(whole, b"Content-Length: +%d" % SIZE, body=SMUGGLED))
    yield Mutation("lengths all and -1", post(whole, b"Content-Length: -1", body=SMUGGLED))
    yield Mutation("lengths equal", post(whole, whole, body=SMUGGLED), equal)
    yield Mutation("lengths equal but for zeros", post(whole, b"Content-Length: 0%d" % SIZE, body=SMUGGLED), equal)
    yield Mutation("lengths equal in a list", _length(b"%d, %d" % (SIZE, SIZE)), equal)
    yield Mutation("lengths in a list of three", _length(b"%d, %d, 0" % (SIZE, SIZE)))
    yield Mutation("lengths list and 0", post(b"Content-Length: %d, %d" % (SIZE, SIZE), zero, body=SMUGGLED))


# --- Transfer-Encoding ------------------------------------------------------------------

_CODINGS_REFUSED = (
    b"", b"\t", b"chunked, chunked", b"chunked,chunked", b"chunked chunked", b"chunked, identity", b"identity",
    b"identity, chunked", b"chunked, gzip", b"gzip", b"gzip, chunked", b"x-chunked", b"xchunked", b"chunkedx",
    b"chunk", b"chunked;", b"chunked;q=1", b"chunked; a=b", b'"chunked"', b"'chunked'", b"chun ked", b"chunked\x00",
    b"\x00chunked", b"chunked\x0b", b"\x0bchunked", b"chunked\x0c", b"\x0cchunked", b"\xa0chunked", b"chunked\xa0",
    b"chunked\x7f", b"\xef\xbb\xbfchunked", "chun\u212aed".encode(), b"cow", b"cow, chunked", b"chunked, cow",
    b"chunked/1.0", b"trailers", b"identity;chunked", b"{chunked}", b"chunked\r", b"\rchunked", b"chunked\rX: y",
    b"chunked:", b": chunked", b"0", b"null", b"chunked\\", b"chunked=", b"deflate, chunked", b"chunked#",
)  # fmt: skip
_CODINGS_MEANT = (
    b"chunked", b"Chunked", b"CHUNKED", b"chunKed", b"   chunked", b"\tchunked", b"chunked \t", b"chunked,",
    b",chunked", b", ,chunked",
)  # fmt: skip


def codings() -> Iterator[Mutation]:
    """Transfer-Encoding alone, and with a Content-Length that ends before or after it."""
    for value in _CODINGS_MEANT:
        yield Mutation(f"coding {show(value)}", post(b"Transfer-Encoding: " + value, body=AS_CHUNK), (SMUGGLED,))
    for value in _CODINGS_REFUSED:
        line = b"Transfer-Encoding: " + value
        yield Mutation(f"coding {show(value)} read", post(line, body=AS_CHUNK))
        yield Mutation(f"coding {show(value)} ignored", post(line, body=SMUGGLED))
        yield Mutation(f"coding {show(value)} after length", post(LENGTH_OF_ALL, line, body=AFTER_CHUNKS))
        yield Mutation(f"coding {show(value)} before length", post(line, LENGTH_OF_SIZE_LINE, body=AS_CHUNK))
    yield Mutation("codings chunked, twice", post(CHUNKED, CHUNKED, body=AS_CHUNK))
    for other in (b"identity", b"gzip", b"", b"cow"):
        line = b"Transfer-Encoding: " + other
        yield Mutation(f"codings chunked and {show(other)}", post(CHUNKED, line, body=AS_CHUNK))
        yield Mutation(f"codings {show(other)} and chunked", post(line, CHUNKED, body=AS_CHUNK))


def coding_names() -> Iterator[Mutation]:
    """What is not Transfer-Encoding, and looks like it."""
    for name in _BAD_NAMES:
        line = name % b"Transfer-Encoding" + b": chunked"
        yield Mutation(f"coding named {show(name)} read", post(LENGTH_OF_ALL, line, body=AFTER_CHUNKS))
        yield Mutation(f"coding named {show(name)} ignored", post(line, LENGTH_OF_SIZE_LINE, body=AS_CHUNK))
    for name in (*_OTHER_NAMES, b"Transfer_Encoding"):
        line = (name % b"Transfer-Encoding" if b"%" in name else name) + b": chunked"
        yield Mutation(
            f"length and {show(name)} chunked", post(LENGTH_OF_ALL, line, body=AFTER_CHUNKS), (AFTER_CHUNKS,)
        )
    for name in (b"transfer-encoding", b"TRANSFER-ENCODING"):
        yield Mutation(f"coding named {show(name)}", post(name + b": chunked", body=AS_CHUNK), (SMUGGLED,))
    yield Mutation("coding without colon", post(b"Transfer-Encoding chunked", body=SMUGGLED))
    yield Mutation("coding with =", post(LENGTH_OF_ALL, b"Transfer-Encoding=chunked", body=AFTER_CHUNKS))


def both() -> Iterator[Mutation]:
    """Content-Length with Transfer-Encoding: the coding counts, the length must be gone (RFC 9112 6.3)."""
    for name, first, second in (("length first", 0, 1), ("coding first", 1, 0)):
        early, late = (LENGTH_OF_ALL, CHUNKED), (LENGTH_OF_SIZE_LINE, CHUNKED)
        yield Mutation(f"both, {name}, chunks end", post(early[first], early[second], body=AFTER_CHUNKS), (b"",))
        yield Mutation(f"both, {name}, length ends", post(late[first], late[second], body=AS_CHUNK), (SMUGGLED,))
    yield Mutation("both, length 0", post(b"Content-Length: 0", CHUNKED, body=AS_CHUNK), (SMUGGLED,))
    yield Mutation("both, length wrong", post(b"Content-Length: x", CHUNKED, body=AS_CHUNK), (SMUGGLED,))
    yield Mutation("both, far apart", post(CHUNKED, *[b"X: y"] * 50, LENGTH_OF_ALL, body=AFTER_CHUNKS), (b"",))
    yield Mutation("both, two lengths", post(CHUNKED, LENGTH_OF_ALL, LENGTH, body=AFTER_CHUNKS), (b"",))


# --- chunks -----------------------------------------------------------------------------

_SIZES_REFUSED = (
    b"", b"+%x", b"-%x", b"0x%x", b"0X%x", b" %x", b"\t%x", b"%x\x00", b"\x00%x", b"%x_0", b"_%x", b"%xg", b"g%x",
    b"%x,", b"%x.", b'"%x"', b"%x\x0b", b"\x0b%x", b"\x0c%x", b"%x\xa0", b"%xh", b"#%x", b"\\x%x", b"x%x", b"%x%%",
    b";", b";a=b", b"%x a", b"%x\x85", b"%x:", b"%x=", b"-0", b"\xef\xbc\x92%x",
)  # fmt: skip
_EXTENSIONS_MEANT = (
    b";a=b",
    b";a",
    b';a="b"',
    b";a=b;c=d",
    b' ;a="b;c"',
    b"; a = b",
    b';a="\\""',
    b" ",
    b"\t",
    b";",
    b';a="',
)
_EXTENSIONS_REFUSED = (
    b";\x00", b";a=b\x00", b";\x7f", b";a\r", b";a\n", b";\n", b";a=\x0b", b';a="\r\n"', b";\r", b";a=b\rc",
)  # fmt: skip


def chunk_sizes() -> Iterator[Mutation]:
    """The line before a chunk's data."""
    for value in _SIZES_REFUSED:
        size = value % SIZE if b"%x" in value else value
        yield Mutation(f"chunk size {show(value)}", _chunk(size + b"\r\n"))
    for zeros in (1, 5):
        yield Mutation(f"chunk size {zeros} zeros", _chunk(b"0" * zeros + b"%x\r\n" % SIZE), (SMUGGLED,))
    for zeros in (16, 5000):
        yield Mutation(f"chunk size {zeros} zeros", _chunk(b"0" * zeros + b"%x\r\n" % SIZE), (SMUGGLED,))
    for power in (64, 65, 128):
        yield Mutation(f"chunk size 2^{power} too much", _chunk(b"%x\r\n" % (2**power + SIZE)))
    yield Mutation("chunk size in capitals", _chunk(b"%X\r\n" % SIZE), (SMUGGLED,))
    yield Mutation("chunk size LF", _chunk(b"%x\n" % SIZE))
    yield Mutation("chunk size CR", _chunk(b"%x\r" % SIZE))
    yield Mutation("chunk size LF CR", _chunk(b"%x\n\r" % SIZE))
    yield Mutation("chunk size CR CR LF", _chunk(b"%x\r\r\n" % SIZE))
    yield Mutation("chunk size CR LF LF", _chunk(b"%x\r\n\n" % SIZE))
    yield from _extensions()


def _extensions() -> Iterator[Mutation]:
    for value in _EXTENSIONS_MEANT:
        yield Mutation(f"chunk extension {show(value)}", _chunk(b"%x%s\r\n" % (SIZE, value)), (SMUGGLED,))
    for value in _EXTENSIONS_REFUSED:
        yield Mutation(f"chunk extension {show(value)}", _chunk(b"%x%s\r\n" % (SIZE, value)))
    yield Mutation("chunk extension of 32 KiB", _chunk(b"%x;%s\r\n" % (SIZE, b"a" * 32768)), (SMUGGLED,))
    tail = AFTER_CHUNKS + b"\r\n0\r\n\r\n"  # who ends the extension at the LF reads it as data of the second chunk
    yield Mutation("chunk extension with a chunk after LF", _chunks(b"2;\nxx\r\n%x\r\n" % len(AFTER_CHUNKS) + tail))
    yield Mutation("chunk extension with a chunk after CR", _chunks(b"2;\rxx\r\n%x\r\n" % len(AFTER_CHUNKS) + tail))
    hidden = b"0;\n\r\n" + SMUGGLED
    yield Mutation("last chunk's extension with LF", _chunks(hidden))


def _chunk(size_line: bytes) -> bytes:
    return _chunks(size_line + SMUGGLED + b"\r\n0\r\n\r\n")


def _chunks(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


def chunk_ends() -> Iterator[Mutation]:
    """What stands between a chunk's data and the next size."""
    wrong = (
        b"", b"\n", b"\r", b"\n\r", b"\r\r\n", b" \r\n", b"X\r\n", b"\x00\r\n", b"\r\n\r\n", b"XX", b"\r\n\n",
        b"\t\n", b";\r\n", b"\x0b\r\n", b"\x85", b"X",
    )  # fmt: skip
    for end in wrong:
        yield Mutation(f"chunk end {show(end)}", _chunks(b"%x\r\n%s%s0\r\n\r\n" % (SIZE, SMUGGLED, end)))
    yield Mutation("chunk longer than its size", _chunks(b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE - 1, SMUGGLED)))
    yield Mutation("chunk shorter than its size", _chunks(b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE + 1, SMUGGLED)))
    yield Mutation("chunk much longer than its size", _chunks(b"1\r\n0\r\n\r\n%s\r\n0\r\n\r\n" % SMUGGLED))
    letters = b"".join(b"1\r\n%c\r\n" % byte for byte in b"0\r\n\r\n")
    yield Mutation("chunks of one byte", _chunks(letters + AS_CHUNK), (AFTER_CHUNKS,))
    yield Mutation("chunks, 40 with extensions", _chunks(b"1;a=b\r\nx\r\n" * 40 + AS_CHUNK), (b"x" * 40 + SMUGGLED,))


def last_chunks() -> Iterator[Mutation]:
    """The chunk of size 0, and the end of the message."""
    for value in (b"00", b"0;a=b", b"0 ", b"0" * 12):
        yield Mutation(f"last chunk {show(value)}", _last(value + b"\r\n\r\n"), (SMUGGLED,))
    for value in (b"-0", b"+0", b"0x0", b" 0", b"0\x00", b"0_", b"0\x0b", b"O", b"\xef\xbc\x90", b"0h", b"0,"):
        yield Mutation(f"last chunk {show(value)}", _last(value + b"\r\n\r\n"))
    ends = (
        b"0\n\r\n", b"0\r\r\n", b"0\n\n", b"0\r\n\n", b"0\r\n\r\r\n", b"0\r\nX\r\n\r\n", b"0\r\n \r\n\r\n",
        b"0\r\n\t\r\n\r\n", b"0\r\n\x00\r\n\r\n",
    )  # fmt: skip
    for end in ends:
        yield Mutation(f"end {show(end)}", _last(end))
        yield Mutation(f"end {show(end)} and a request", _chunks(end + SMUGGLED))
    yield Mutation("end CR and a request", _chunks(b"0\r\n\r" + SMUGGLED))
    yield Mutation("no end but a request", _chunks(b"0\r\n" + SMUGGLED))
    yield Mutation("no last chunk but an empty line", _chunks(b"\r\n" + SMUGGLED))


def _last(last: bytes) -> bytes:
    return _chunks(chunked(SMUGGLED, last))


def trailers() -> Iterator[Mutation]:
    """Fields after the last chunk; good ones may be forwarded or dropped."""
    good = (
        b"X-Check: 1",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Host: elsewhere",
        b"Connection: close",
    )
    for line in good:
        yield Mutation(f"trailer {show(line)}", _last(b"0\r\n" + line + b"\r\n\r\n"), (SMUGGLED,))
    bad = (
        SMUGGLED.removesuffix(b"\r\n\r\n"), b"X : y", b"X\t: y", b": y", b" X: y", b"X: a\nY: b", b"X: a\rY: b",
        b"X: \x00", b"X: y\r\n folded", b"X\x00: y", b"X: y\n", b"X: y\r", b"X: \x01", b"\x0bX: y", b"X Y: z",
    )  # fmt: skip
    for line in bad:
        yield Mutation(f"trailer {show(line)}", _last(b"0\r\n" + line + b"\r\n\r\n"))
    yield Mutation("trailers, 2000", _last(b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n"), (SMUGGLED,))
    yield Mutation("trailer of 100 KiB", _last(b"0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), (SMUGGLED,))
    yield Mutation("trailer named in Trailer", post(CHUNKED, b"Trailer: Content-Length",
                   body=chunked(SMUGGLED, b"0\r\nContent-Length: 0\r\n\r\n")), (SMUGGLED,))  # fmt: skip


# --- heads ------------------------------------------------------------------------------


def versions() -> Iterator[Mutation]:
    """HTTP/1.0 and what is no version."""
    for version in (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.9"):
        yield Mutation(f"version {show(version)}", _version(version, LENGTH, body=SMUGGLED), (SMUGGLED,))
    bad = (
        b"HTTP/2.0", b"HTTP/3.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.01", b"http/1.1", b"Http/1.1",
        b"HTTP/1,1", b"HTTP/1.1 ", b"HTTP/1.1\t", b" HTTP/1.1", b"HTTP/1.1x", b"HTTPS/1.1", b"HTTP /1.1",
        b"HTTP/ 1.1", b"HTTP/1.", b"HTTP/.1", b"HTTP/11", b"", b"HTTP/-1.1", b"HTTP/1.1 HTTP/1.1", b"HTTP/1.1\x00",
        b"HTTP/\xef\xbc\x91.1", b"1.1", b"HTTP/1", b"HTTP/1.x",
    )  # fmt: skip
    for version in bad:
        yield Mutation(f"version {show(version)}", _version(version, LENGTH, body=SMUGGLED))
    for lines in ((CHUNKED,), (b"Connection: keep-alive", CHUNKED)):
        name = f"HTTP/1.0 chunked, {len(lines)} lines"
        yield Mutation(f"{name}, read", _version(b"HTTP/1.0", *lines, body=AS_CHUNK))
        yield Mutation(f"{name}, ignored", _version(b"HTTP/1.0", *lines, LENGTH_OF_SIZE_LINE, body=AS_CHUNK))
        yield Mutation(f"{name}, after length", _version(b"HTTP/1.0", LENGTH_OF_ALL, *lines, body=AFTER_CHUNKS))


def _version(version: bytes, *lines: bytes, body: bytes) -> bytes:
    return post(*lines, body=body, start=b"POST /mark-NNNN " + version)


def request_lines() -> Iterator[Mutation]:
    """The rest of the request line."""
    bad = (
        b"POST  /mark-NNNN HTTP/1.1", b"POST\t/mark-NNNN HTTP/1.1", b" POST /mark-NNNN HTTP/1.1",
        b"\tPOST /mark-NNNN HTTP/1.1", b"PO ST /mark-NNNN HTTP/1.1", b"POST\x00 /mark-NNNN HTTP/1.1",
        b"P\xd6ST /mark-NNNN HTTP/1.1", b"POST: /mark-NNNN HTTP/1.1", b"POST /mark-NNNN x HTTP/1.1",
        b"POST /mark-NNNN\tx HTTP/1.1", b"POST /mark-NNNN\x00 HTTP/1.1", b"POST /mark-NNNN\x7f HTTP/1.1",
        b"POST /mark-NNNN\rx HTTP/1.1", b"POST /mark-NNNN\x0b HTTP/1.1", b"/mark-NNNN HTTP/1.1",
        b"POST mark-NNNN HTTP/1.1", b"POST HTTP/1.1", b"POST /mark-NNNN\r\nHTTP/1.1", b"POST /mark-NNNN\nHTTP/1.1",
        b"(POST) /mark-NNNN HTTP/1.1", b"\x00POST /mark-NNNN HTTP/1.1", b"X: y", b"\rPOST /mark-NNNN HTTP/1.1",
        b"\x0bPOST /mark-NNNN HTTP/1.1", b"POST /mark-NNNN HTTP/1.1\rX: y", b"POST /mark-NNNN HTTP/1.1\nX: y\r",
        b"POST /mark-NNNN HTTP/1.1\x0b", b"CONNECT origin:80 HTTP/1.1",
    )  # fmt: skip
    for start in bad:
        yield Mutation(f"start {show(start)}", post(LENGTH, body=SMUGGLED, start=start))
    for before in (b"\r\n", b"\r\n\r\n"):
        start = before + b"POST /mark-NNNN HTTP/1.1"  # RFC 9112 2.2 lets a server skip them
        yield Mutation(f"start {show(start)}", post(LENGTH, body=SMUGGLED, start=start), (SMUGGLED,))


def line_ends() -> Iterator[Mutation]:
    """Bare CR and LF in the field section. A lone LF may be taken for a line's end (RFC 9112 2.2), and be made CRLF."""
    start = b"POST /mark-NNNN HTTP/1.1"
    lines = [start, b"Host: origin", LENGTH]
    for name, end in (("LF", b"\n"), ("CR", b"\r"), ("LF CR", b"\n\r"), ("CR CR LF", b"\r\r\n")):
        bodies = (SMUGGLED,) if name == "LF" else ()
        yield Mutation(f"every line ends with {name}", end.join([*lines, b"", b""]) + SMUGGLED, bodies)
        for at in range(len(lines)):
            ends = [end if number == at else b"\r\n" for number in range(len(lines))]
            head = b"".join(line + end for line, end in zip(lines, ends, strict=True))
            yield Mutation(f"line {at + 1} ends with {name}", head + b"\r\n" + SMUGGLED, bodies)
        yield Mutation(f"head ends with CRLF and {name}", b"\r\n".join(lines) + b"\r\n" + end + SMUGGLED, bodies)
    for name, glue in (
        ("LF", b"\n"),
        ("CR", b"\r"),
        ("NUL LF", b"\x00\n"),
        ("VT", b"\x0b"),
        ("FF", b"\x0c"),
        ("NEL", b"\x85"),
    ):
        for hidden, visible, body, lenient in _hidden():
            raw = post(visible, b"X: y" + glue + hidden, body=body)
            refused = glue in (b"\x85",)  # obs-text: nothing is hidden there
            bodies = (
                (_by_length(visible, body),) if refused else (lenient,) if glue == b"\n" and lenient is not None else ()
            )
            yield Mutation(f"{show(hidden)} after {name}, {show(visible)}", raw, bodies)


def _hidden() -> Iterator[tuple[bytes, bytes, bytes, bytes | None]]:
    """A field for one reader only, one for all, a body, and what it is for whoever takes a LF for a line's end."""
    yield CHUNKED, LENGTH_OF_ALL, AFTER_CHUNKS, b""
    yield b"Content-Length: 0", LENGTH, SMUGGLED, None


def _by_length(line: bytes, body: bytes) -> bytes:
    return body[: int(line.rpartition(b" ")[2])]


def fields() -> Iterator[Mutation]:
    """Field lines that are none, before the one that counts."""
    bad = (
        b"X", b": y", b"X : y", b"X Y: z", b"X\x00: y", b"X: \x00", b"X: \x01", b"X: \x1b", b"X: \x7f", b"X: a\rb",
        b"X: \r", b"\xc3\xa9: y", b"X: y\r\n\x00", b"(X): y", b"X\r: y", b"X: \x08", b"GET /smuggled-NNNN HTTP/1.1",
        b"@: y",
    )  # fmt: skip
    for line in bad:
        yield Mutation(f"field {show(line)}", post(line, LENGTH, body=SMUGGLED))
        yield Mutation(f"field {show(line)} last", post(LENGTH, line, body=SMUGGLED))
    folded = (b"X: y\r\n z", b"X: y\r\n\tz", b"Content-Length:\r\n %d" % SIZE, b"X: y\r\n Content-Length: 0")
    for line in folded:  # a fold may be made one line (RFC 9112 5.2)
        lines = (line,) if line.startswith(b"Content") else (line, LENGTH)
        yield Mutation(f"fold {show(line)}", post(*lines, body=SMUGGLED), (SMUGGLED,))
    yield Mutation(
        "fold of the coding", post(LENGTH_OF_ALL, b"Transfer-Encoding:\r\n chunked", body=AFTER_CHUNKS), (b"",)
    )
    yield Mutation("fold in the coding", post(b"Transfer-Encoding: chunked\r\n , identity", body=AS_CHUNK))
    yield Mutation("fold before the first field", post(LENGTH, body=SMUGGLED, host=b" Host: origin\r\nHost: origin"))
    yield Mutation("line of a space", post(LENGTH, b" ", body=SMUGGLED), (SMUGGLED,))
    yield Mutation("line of a tab", post(b"\t", LENGTH, body=SMUGGLED), (SMUGGLED,))
    yield Mutation("fields, 1000", post(*[b"X: y"] * 1000, LENGTH, body=SMUGGLED), (SMUGGLED,))
    yield Mutation("field of 100 KiB", post(b"X: " + b"y" * 100_000, LENGTH, body=SMUGGLED), (SMUGGLED,))
    for value in (
        b"\x80\xff",
        b"a\tb",
        b"%0d%0aContent-Length: 0",
        b'"Content-Length: 0"',
        b"Transfer-Encoding: chunked",
    ):
        yield Mutation(f"field value {show(value)}", post(b"X: " + value, LENGTH, body=SMUGGLED), (SMUGGLED,))


def hosts() -> Iterator[Mutation]:
    """A missing, doubled or invalid Host."""
    bad = (
        b"", b"Host: origin\r\nHost: origin", b"Host: origin\r\nHost: elsewhere", b"Host: a b", b"Host: a,b",
        b"Host: a/b", b"Host: a@b", b"Host: a?b", b"Host: a#b", b"Host: http://origin", b"Host: origin:80x",
        b"Host: [::1", b"Host : origin", b"Host: a\x00b", b"Host: a\\b", b"Host: origin:80:80", b"Host: [::1]x",
        b"Host: a\tb", b"Host: \xc3\xa9", b"Host: a<b>",
    )  # fmt: skip
    for host in bad:
        yield Mutation(f"host {show(host)}", post(LENGTH, body=SMUGGLED, host=host))


def methods() -> Iterator[Mutation]:
    """A body counts whatever the method is."""
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH", b"PURGE", b"post", b"M-SEARCH", b"TRACE"):
        start = method + b" /mark-NNNN HTTP/1.1"
        yield Mutation(f"{show(method)} with a length", post(LENGTH, body=SMUGGLED, start=start), (SMUGGLED,))
        yield Mutation(f"{show(method)} with chunks", post(CHUNKED, body=AS_CHUNK, start=start), (SMUGGLED,))
        yield Mutation(
            f"{show(method)} with both", post(LENGTH_OF_ALL, CHUNKED, body=AFTER_CHUNKS, start=start), (b"",)
        )


def hop_by_hop() -> Iterator[Mutation]:
    """Connection must not name the framing away, and a wish to upgrade or wait changes nothing about it."""
    framings = ((LENGTH, SMUGGLED), (CHUNKED, AS_CHUNK))
    wishes: tuple[tuple[bytes, ...], ...] = (
        (b"Connection: content-length, transfer-encoding, host",),
        (b"Connection: close, Content-Length, Transfer-Encoding",),
        (b"Connection: keep-alive", b"Connection: transfer-encoding,content-length"),
        (b"Keep-Alive: timeout=5", b"Connection: keep-alive"), (b"Proxy-Connection: content-length",),
        (b"TE: chunked", b"Connection: TE"), (b"TE: trailers, gzip", b"Connection: te, trailer"),
        (b"Expect: 100-continue",), (b"Expect: 100-Continue",), (b"Expect: nonsense",), (b"Expect:",),
        (b"Expect: 100-continue", b"Expect: 100-continue"),
        (b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
         b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        (b"Upgrade: chunked",), (b"Connection: upgrade", b"Upgrade: TLS/1.0, HTTP/1.0"),
        (b"Connection: ,,", b"Trailer: Content-Length"),
    )  # fmt: skip
    for lines in wishes:
        for framing, body in framings:
            name = " ".join(map(show, (*lines, framing)))
            yield Mutation(name, post(*lines, framing, body=body), (SMUGGLED,))
