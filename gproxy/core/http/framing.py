"""How long a message's body is, by the steps of RFC 9112 section 6.3; what has two readings is refused.

Stricter than the RFC where servers are known to differ: equal repeated lengths are refused, and so is
Transfer-Encoding in HTTP/1.0 and anything in it but a single `chunked`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gproxy.core.http.fields import Fields
from gproxy.core.http.messages import Body, Framing, Malformed

_CODING = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_DIGITS = 19  # at most: of _MAX_LENGTH; and what is remembered stays small
_LENGTH = re.compile(rb"[0-9]{1,%d}" % _DIGITS)
_MAX_LENGTH = 2**63 - 1  # a server that counts in signed 64 bits would read more as less than nothing
_NO_BODY = Framing(Body.NONE)
_CHUNKED = Framing(Body.CHUNKED)
_UNTIL_CLOSE = Framing(Body.UNTIL_CLOSE)


def request_framing(minor: int, fields: Fields) -> Framing:
    """How a request's body ends. Malformed with 400, or 501 for a transfer coding that is merely unknown."""
    return _explicit(minor, fields, 400) or _NO_BODY


def response_framing(status: int, minor: int, fields: Fields) -> Framing:
    """How a response's body ends, as if its request was neither HEAD nor CONNECT. Malformed with 502."""
    if status < 200 or status in (204, 304):
        return _NO_BODY
    return _explicit(minor, fields, 502) or _UNTIL_CLOSE


def _explicit(minor: int, fields: Fields, refusal: int) -> Framing | None:
    """What the framing fields say; None without any."""
    lengths = fields.values(b"content-length")
    codings = fields.values(b"transfer-encoding")
    if lengths and codings:
        raise Malformed(refusal, "Content-Length together with Transfer-Encoding")
    if codings:
        return _chunked(minor, codings, refusal)
    return _by_length(lengths, refusal) if lengths else None


def _chunked(minor: int, codings: list[bytes], refusal: int) -> Framing:
    if minor == 0:
        raise Malformed(refusal, "Transfer-Encoding in HTTP/1.0")
    if len(codings) == 1 and codings[0].lower() == b"chunked":
        return _CHUNKED
    if refusal == 400 and len(codings) == 1 and _unknown_coding(codings[0].lower()):
        raise Malformed(501, "a transfer coding other than chunked")
    raise Malformed(refusal, "Transfer-Encoding is not a single `chunked`")


def _unknown_coding(value: bytes) -> bool:
    """Whether a value is clear and merely not supported, such as `gzip` or `gzip, chunked`."""
    *before, last = [coding.strip(b" \t") for coding in value.split(b",")]
    return b"chunked" not in before and all(_CODING.fullmatch(coding) for coding in (*before, last))


def _by_length(values: list[bytes], refusal: int) -> Framing:
    if len(values) > 1:
        raise Malformed(refusal, "Content-Length more than once")
    framing = _framing_of(values[0]) if len(values[0]) <= _DIGITS else None
    if framing is None:
        raise Malformed(refusal, "Content-Length is not a number of bytes")
    return framing


@lru_cache(maxsize=1024)
def _framing_of(value: bytes) -> Framing | None:
    length = int(value) if _LENGTH.fullmatch(value) else _MAX_LENGTH + 1
    return Framing(Body.LENGTH, length) if length <= _MAX_LENGTH else None
