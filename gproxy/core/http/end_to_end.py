"""Which fields of a message are forwarded: what ends at this hop is taken out, then the operator's rules apply.

| fields | |
|---|---|
| Connection, Keep-Alive, Proxy-Connection, TE, Upgrade, HTTP2-Settings, Proxy-Authenticate | end here |
| what Connection names | ends here, but for KEPT: a client can't name away what others rely on |
| Content-Length, Transfer-Encoding | end here; exactly one line of our own is written from the framing |
| all others, Trailer, Expect and Proxy-Authorization among them | as they came, in their order |

CGI and WSGI read `_` in a name as `-`, so to them X_Forwarded_For is X-Forwarded-For. Hence a name is judged
with `_` taken for `-`: what would be taken out or replaced under one spelling is so under the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from gproxy.core.http.messages import Body, Fields, Framing

Line = tuple[bytes, bytes]  # a field's name and value

HOP_BY_HOP = frozenset(
    {b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"upgrade"}
)
FRAMING = frozenset({b"content-length", b"transfer-encoding"})

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


def canonical(name: bytes) -> bytes:
    """The name by which fields are told apart."""
    return _known_canonical(name) if len(name) <= _LONGEST_KNOWN else _canonical(name)


def _canonical(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


_LONGEST_KNOWN = 64  # bytes: what is remembered of names stays small, whatever clients send
_known_canonical = lru_cache(maxsize=1024)(_canonical)


def end_to_end(fields: Fields) -> list[Line]:
    """The fields that don't end at this hop, without the framing."""
    named = {canonical(name) for name in fields.tokens(b"connection")}
    ends_here = HOP_BY_HOP | FRAMING | {name for name in named if not _is_kept(name)}
    return [line for line in fields.lines if canonical(line[0]) not in ends_here]


def end_to_end_trailers(trailers: Fields, ruled: frozenset[bytes]) -> Fields:
    """The trailer fields to forward: none that the head alone may hold, or that a rule is about (ForwardOptions)."""
    refused = _NOT_IN_TRAILERS | ruled
    return Fields(
        (name, value)
        for name, value in trailers.lines
        if canonical(name) not in refused and not is_forwarding(canonical(name))
    )


def framing_lines(framing: Framing) -> list[Line]:
    """The one line that says where the body ends; none where there is none, or where the close says it."""
    match framing.body:
        case Body.LENGTH:
            return [(b"Content-Length", b"%d" % framing.length)]
        case Body.CHUNKED:
            return [(b"Transfer-Encoding", b"chunked")]
    return []


def via(minor: int, pseudonym: bytes) -> Line:
    """`minor` is the version of the message as it was received (RFC 9110 section 7.6.3)."""
    return (b"Via", b"1.%d %b" % (minor, pseudonym))


def apply_rules(lines: Sequence[Line], remove: frozenset[bytes], added: tuple[Line, ...]) -> list[Line]:
    """First remove, then set in the place of any of that name."""
    gone = remove | names(added)
    return [*(line for line in lines if canonical(line[0]) not in gone), *added]


def names(lines: Iterable[Line]) -> frozenset[bytes]:
    """The canonical names of some lines."""
    return frozenset(canonical(name) for name, _ in lines)


def is_forwarding(name: bytes) -> bool:
    """Whether a canonical name tells of the hops before: with untrusted clients, it is theirs to forge."""
    return name == b"forwarded" or name.startswith(b"x-forwarded-")


def field_lines(lines: Iterable[Line]) -> bytes:
    """As they are sent, each with its CRLF."""
    return b"".join(b"%b: %b\r\n" % line for line in lines)


def _is_kept(name: bytes) -> bool:
    return name in KEPT or is_forwarding(name)
