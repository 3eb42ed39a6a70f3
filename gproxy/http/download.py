"""A response body on its way from the backend to the client, by each way of framing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gproxy.core.http.bodies import ChunkedReader, LengthReader, UntilCloseReader
from gproxy.core.http.messages import Malformed
from gproxy.net.lowwater import LowWaterMark
from gproxy.net.stream import READ_SIZE, Stream

BodyReader = LengthReader | ChunkedReader | UntilCloseReader


class BackendCutOff(Exception):
    """The backend ended before its response did."""


def relay_length(backend: Stream, client: Stream, opening: bytes, rest: bytes, reader: LengthReader) -> bytes:
    """Send `opening` (the head) with a body of known length, of which `rest` is here; what is left over of that."""
    pieces, used = reader.feed(rest)
    client.write(opening + b"".join(pieces))
    if reader.done:
        return rest[used:]
    mark = LowWaterMark(backend)
    try:
        return _relay_rest(backend, client, reader, mark)
    finally:
        mark.stop()


def _relay_rest(backend: Stream, client: Stream, reader: LengthReader, mark: LowWaterMark) -> bytes:
    left_over = b""
    while not reader.done:
        moved = backend.splice_to(client, reader.remaining) if reader.remaining >= READ_SIZE else 0
        if moved:
            reader.advance(moved)
        else:
            data = backend.read()
            if not data:
                raise BackendCutOff
            pieces, used = reader.feed(data)
            client.write(b"".join(pieces))
            left_over = data[used:]
        mark.moved(reader.remaining)
    return left_over


def relay_pieces(
    backend: Stream, client: Stream, opening: bytes, rest: bytes, reader: BodyReader, encoding: Encoding
) -> bytes:
    """Send `opening` and a body whose end its own bytes tell, or the backend's end; what is left over."""
    while True:
        pieces, used = reader.feed(rest)
        data = opening + encoding.piece(b"".join(pieces))
        if reader.done:
            client.write(data + encoding.last(reader))
            return rest[used:]
        if data:
            client.write(data)
            opening = b""
        rest = backend.read()
        if not rest:
            try:
                reader.eof()
            except Malformed as error:
                raise BackendCutOff from error
            client.write(encoding.last(reader))
            return b""


class Encoding(NamedTuple):
    """How a body is written: what came at once, and what comes behind the last."""

    piece: Callable[[bytes], bytes]
    last: Callable[[BodyReader], bytes]


AS_IT_IS = Encoding(lambda piece: piece, lambda _reader: b"")  # for a client that is told the end by our closing
