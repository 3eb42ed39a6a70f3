"""A request as it is sent to a backend.

Everything that depends on the field block alone is worked out once for each distinct block and kept by the
session: browsers and clients send the same block again and again, with another target.

    method SP target " HTTP/1.1" CRLF          of this request
    Host, the client's fields, framing, Via    of the block (end_to_end)
    X-Forwarded-... or Forwarded               of the connection and the block (client_lines)
    X-Request-ID CRLF CRLF                     of this request
"""

from __future__ import annotations

import re
from copy import copy

from gproxy.core.http.authority import check_authority
from gproxy.core.http.end_to_end import Line, end_to_end, framing_line
from gproxy.core.http.fields import FieldLine, Fields
from gproxy.core.http.framing import request_framing
from gproxy.core.http.heads import parse_request_rest
from gproxy.core.http.messages import Body, HeadLimits, Malformed
from gproxy.core.http.options import ForwardOptions, Rules
from gproxy.core.settings import Forwarded

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestBlock:
    """A request's head but for its method and target."""

    __slots__ = ("_host_rule", "_other_lines", "bodiless", "end_to_end", "expects_continue", "fields",
                 "forwarded_for", "framing", "host", "keep_alive", "minor", "plain", "quick", "request_id",
                 "upgrade")  # fmt: skip

    def __init__(self, rest: bytes, limits: HeadLimits, options: ForwardOptions):
        """Take in a request head from its version to its blank line. Malformed."""
        fields: Fields
        minor, fields = parse_request_rest(rest, limits)
        framing = request_framing(minor, fields)
        has_body = framing.body is Body.CHUNKED or framing.length > 0
        self.minor = minor  # 0 or 1
        self.fields = fields  # as they came
        self.framing = framing
        self.bodiless = framing.body is Body.NONE
        self.quick = minor == 1 and self.bodiless
        self.host = _host(minor, fields)  # as it came, checked; None for HTTP/1.0 without one
        self.keep_alive = _keep_alive(minor, fields)  # what the client wants
        self.plain = minor == 1 and self.keep_alive  # whether the response's head may be sent as it is remembered
        self.upgrade = None if minor == 0 or has_body else _upgrade(fields)  # what to ask the backend to switch to
        # A body follows, and the client may hold it back until it gets a 100 or a final response.
        self.expects_continue = _expects_continue(fields) and minor == 1 and has_body
        self.request_id = _request_id(fields)  # the client's own, if it may be passed on
        # What came of the forwarding fields: to be believed of trusted clients only.
        self.forwarded_for = _forwarding_lines(fields, options)
        self._host_rule = options.host
        self._other_lines = self._lines(options)
        # The field lines to forward, Host first, each with its CRLF.
        self.end_to_end = _with_host(options.host or self.host, self._other_lines)

    def with_host(self, host: bytes) -> RequestBlock:
        """The same with another Host: of an absolute-form target, or our own for HTTP/1.0 without one."""
        other: RequestBlock = copy(self)
        other.host = host
        other.end_to_end = _with_host(self._host_rule or host, self._other_lines)
        return other

    def _lines(self, options: ForwardOptions) -> bytes:
        """What is sent on, as it is sent, without Host."""
        rules: Rules = options.request
        forwarding_is_ours = options.forwarded is not Forwarded.OFF
        kept = []
        line: FieldLine
        for line in end_to_end(self.fields, rules.gone):
            if line.forwarding and forwarding_is_ours:
                continue
            if self.minor == 0 and line.canonical == b"expect":
                continue  # a 100 means nothing to HTTP/1.0
            kept.append(line.wire)
        kept.append(framing_line(self.framing))
        if self.upgrade is not None:
            kept.append(b"Connection: upgrade\r\nUpgrade: %b\r\n" % self.upgrade)
        kept += (rules.via[self.minor], rules.added)
        return b"".join(kept)

    def __repr__(self) -> str:
        return f"<RequestBlock HTTP/1.{self.minor} {self.fields!r}>"


def request_bytes(block: RequestBlock, method: bytes, target: bytes, client_lines: bytes, request_id: bytes) -> bytes:
    """The head to send. Runs on every request: a join costs a third of a formatting here."""
    return b"".join(
        (
            method,
            b" ",
            target,
            b" HTTP/1.1\r\n",
            block.end_to_end,
            client_lines,
            b"X-Request-ID: ",
            request_id,
            b"\r\n\r\n",
        )
    )


def _host(minor: int, fields: Fields) -> bytes | None:
    """RFC 9112 section 3.2. An empty Host is refused as well, as by nginx."""
    values = fields.values(b"host")
    if len(values) > 1:
        raise Malformed(400, "more than one Host")
    if values:
        check_authority(values[0])
        return values[0]
    if minor == 1:
        raise Malformed(400, "no Host")
    return None


def _keep_alive(minor: int, fields: Fields) -> bool:
    options = fields.tokens(b"connection")
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def _upgrade(fields: Fields) -> bytes | None:
    """What Upgrade asks for. Never h2c: in that tunnel, requests would pass without a look at them."""
    wanted = fields.tokens(b"upgrade")
    if not wanted or b"h2c" in wanted or b"upgrade" not in fields.tokens(b"connection"):
        return None
    return b", ".join(fields.values(b"upgrade"))


def _expects_continue(fields: Fields) -> bool:
    expectations = set(fields.tokens(b"expect"))
    if expectations - {b"100-continue"}:
        raise Malformed(417, "an expectation other than 100-continue")
    return bool(expectations)


def _request_id(fields: Fields) -> bytes | None:
    values = fields.values(b"x-request-id")
    return values[0] if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]) else None


def _forwarding_lines(fields: Fields, options: ForwardOptions) -> tuple[Line, ...]:
    """The incoming lines of the vocabulary that is spoken here; the other one's are dropped."""
    prefix = b"forwarded" if options.forwarded is Forwarded.FORWARDED else b"x-forwarded-"
    return tuple([(line.name, line.value) for line in fields.known if line.forwarding and line.key.startswith(prefix)])


def _with_host(host: bytes | None, other_lines: bytes) -> bytes:
    return other_lines if host is None else b"Host: %b\r\n%b" % (host, other_lines)
