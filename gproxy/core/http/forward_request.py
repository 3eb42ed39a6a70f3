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
from dataclasses import dataclass, field, replace

from gproxy.core.http.authority import check_authority
from gproxy.core.http.end_to_end import (
    Line,
    apply_rules,
    canonical,
    end_to_end,
    field_lines,
    framing_lines,
    is_forwarding,
    via,
)
from gproxy.core.http.framing import request_framing
from gproxy.core.http.heads import parse_request_rest
from gproxy.core.http.messages import Body, Fields, Framing, HeadLimits, Malformed
from gproxy.core.http.options import ForwardOptions
from gproxy.core.settings import Forwarded

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


# Compared by identity: two blocks are the same only if their bytes are.
@dataclass(slots=True, kw_only=True, eq=False)  # nobody changes it, but to freeze it doubles what it costs to make
class RequestBlock:
    """A request's head but for its method and target."""

    minor: int  # 0 or 1
    fields: Fields  # as they came
    framing: Framing
    bodiless: bool
    quick: bool  # HTTP/1.1 and bodiless
    plain: bool  # whether the response's head may be sent as it is remembered: HTTP/1.1, no close
    host: bytes | None  # Host as it came, checked; None for HTTP/1.0 without one
    keep_alive: bool  # what the client wants
    upgrade: bytes | None  # what to ask the backend to switch to
    expects_continue: bool  # a body follows, and the client may hold it back until it gets a 100 or a final response
    request_id: bytes | None  # the client's own, if it may be passed on
    forwarded_for: tuple[Line, ...] = field(
        repr=False
    )  # what came of the forwarding fields; to be believed of trusted clients only
    host_rule: bytes | None = field(repr=False)  # what the operator sets in the place of Host
    other_lines: bytes = field(repr=False)  # end_to_end without Host
    end_to_end: bytes = field(repr=False)  # the field lines to forward, Host first, each with its CRLF


def request_block(rest: bytes, limits: HeadLimits, options: ForwardOptions) -> RequestBlock:
    """Take in a request head from its version to its blank line. Malformed."""
    minor, fields = parse_request_rest(rest, limits)
    framing = request_framing(minor, fields)
    has_body = framing.body is Body.CHUNKED or framing.length > 0
    host = _host(minor, fields)
    keep_alive = _keep_alive(minor, fields)
    upgrade = None if minor == 0 or has_body else _upgrade(fields)
    lines = _forwarded_lines(minor, fields, framing, upgrade, options)
    host_rule = next((value for name, value in lines if canonical(name) == b"host"), None)
    other_lines = field_lines(line for line in lines if canonical(line[0]) != b"host")
    return RequestBlock(
        minor=minor,
        fields=fields,
        framing=framing,
        bodiless=framing.body is Body.NONE,
        quick=minor == 1 and framing.body is Body.NONE,
        plain=minor == 1 and keep_alive,
        host=host,
        keep_alive=keep_alive,
        upgrade=upgrade,
        expects_continue=_expects_continue(fields) and minor == 1 and has_body,
        request_id=_request_id(fields),
        forwarded_for=_forwarding_lines(fields, options),
        host_rule=host_rule,
        other_lines=other_lines,
        end_to_end=_with_host(host_rule or host, other_lines),
    )


def block_with_host(block: RequestBlock, host: bytes) -> RequestBlock:
    """The same with another Host: of an absolute-form target, or our own for HTTP/1.0 without one."""
    return replace(block, host=host, end_to_end=_with_host(block.host_rule or host, block.other_lines))


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


def _forwarded_lines(
    minor: int, fields: Fields, framing: Framing, upgrade: bytes | None, options: ForwardOptions
) -> list[Line]:
    """What is sent on; Host among it only where a rule sets it."""
    lines = [line for line in end_to_end(fields) if not _is_ours(canonical(line[0]), minor, options)]
    lines += framing_lines(framing)
    if upgrade is not None:
        lines += [(b"Connection", b"upgrade"), (b"Upgrade", upgrade)]
    lines.append(via(minor, options.pseudonym))
    return apply_rules(lines, options.request_remove, options.request_set)


def _is_ours(name: bytes, minor: int, options: ForwardOptions) -> bool:
    """Whether gproxy writes the field itself, or must not pass it on: a 100 means nothing to HTTP/1.0."""
    if name == b"expect":
        return minor == 0
    return name in (b"host", b"x-request-id") or (options.forwarded is not Forwarded.OFF and is_forwarding(name))


def _forwarding_lines(fields: Fields, options: ForwardOptions) -> tuple[Line, ...]:
    """The incoming lines of the vocabulary that is spoken here; the other one's are dropped."""
    prefix = b"forwarded" if options.forwarded is Forwarded.FORWARDED else b"x-forwarded-"
    return tuple(line for line in fields.lines if line[0].lower().startswith(prefix))


def _with_host(host: bytes | None, other_lines: bytes) -> bytes:
    return other_lines if host is None else b"Host: %b\r\n%b" % (host, other_lines)
