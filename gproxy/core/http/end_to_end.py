"""Which fields of a message are forwarded: what ends at this hop is taken out, then the operator's rules apply.

| fields | |
|---|---|
| Connection, Keep-Alive, Proxy-Connection, TE, Upgrade, HTTP2-Settings, Proxy-Authenticate | end here |
| what Connection names | ends here, but for KEPT: a client can't name away what others rely on |
| Content-Length, Transfer-Encoding | end here; exactly one line of our own is written from the framing |
| all others, Trailer, Expect and Proxy-Authorization among them | as they came, in their order |

A name is judged in its canonical form (fields.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from gproxy.core.http.fields import FRAMING, FieldLine, Fields, canonical, is_forwarding
from gproxy.core.http.messages import Body, Framing

Line = tuple[bytes, bytes]  # a field's name and value

HOP_BY_HOP = frozenset(
    {b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"upgrade"}
)

# Nor can the forwarding fields be named away. Without these, a backend would misread the message, wait for a body
# that waits for it, or trust a wrong client.
KEPT = FRAMING | {b"authorization", b"cookie", b"expect", b"host", b"via", b"x-real-ip", b"x-request-id"}

# A backend that merged them into the head would take the message for another one (RFC 9110 section 6.5.1).
_NOT_IN_TRAILERS = (
    HOP_BY_HOP
    | KEPT
    | {
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"max-forwards",
        b"set-cookie",
        b"trailer",
    }
)


ENDS_HERE = HOP_BY_HOP | FRAMING


def end_to_end(fields: Fields, gone: frozenset[bytes] = ENDS_HERE) -> list[FieldLine]:
    """The fields that don't end at this hop, without the framing; `gone` are the canonical names that always do."""
    if named := fields.tokens(b"connection"):
        gone = gone.union([name for name in map(canonical, named) if not _is_kept(name)])
    kept = []
    line: FieldLine  # a loop, because in a comprehension it would have no type when it is compiled
    for line in fields.known:
        if line.canonical not in gone:
            kept.append(line)
    return kept


def end_to_end_trailers(trailers: Fields, ruled: frozenset[bytes]) -> Fields:
    """The trailer fields to forward: none that the head alone may hold, or that a rule is about (ForwardOptions)."""
    refused = _NOT_IN_TRAILERS | ruled
    return Fields(known=[line for line in trailers.known if line.canonical not in refused and not line.forwarding])


def framing_line(framing: Framing) -> bytes:
    """The one line that says where the body ends; none where there is none, or where the close says it."""
    match framing.body:
        case Body.LENGTH:
            return b"Content-Length: %d\r\n" % framing.length
        case Body.CHUNKED:
            return b"Transfer-Encoding: chunked\r\n"
    return b""


def names(lines: Iterable[Line]) -> frozenset[bytes]:
    """The canonical names of some lines."""
    return frozenset(canonical(name) for name, _ in lines)


def field_lines(lines: Iterable[Line]) -> bytes:
    """As they are sent, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % line for line in lines])


def _is_kept(name: bytes) -> bool:
    return name in KEPT or is_forwarding(name)
