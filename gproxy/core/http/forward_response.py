"""A response as it is sent to a client, worked out once for each distinct head.

Interim responses are forwarded as they come but for what ends at this hop: no rules and no Via (a gateway may
leave it out of responses, RFC 9110 section 7.6.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gproxy.core.http.end_to_end import (
    Line,
    apply_rules,
    end_to_end,
    field_lines,
    framing_lines,
    names,
    via,
)
from gproxy.core.http.framing import response_framing
from gproxy.core.http.heads import parse_response
from gproxy.core.http.messages import Body, Fields, Framing, HeadLimits, Malformed
from gproxy.core.http.options import ForwardOptions

_TIMEOUT = re.compile(rb"timeout[ \t]*=[ \t]*\"?([0-9]{1,9})\"?")
_NO_BODY = Framing(Body.NONE)
_CHUNKED = Framing(Body.CHUNKED)


@dataclass(slots=True, kw_only=True, eq=False)  # nobody changes it, but to freeze it doubles what it costs to make
class ResponseBlock:
    """A response head. The three forms lack a last CRLF, and Connection but for 101: the session adds them.

    | form | for | says where the body ends by |
    |---|---|---|
    | start_and_fields | an HTTP/1.1 client | Content-Length or chunked; a body until close becomes chunked |
    | close_delimited | an HTTP/1.0 client, HEAD included | Content-Length or the close |
    | for_head | the answer to HEAD | as the backend did, though no body follows |
    """

    minor: int  # 0 or 1
    status: int
    reason: bytes
    fields: Fields  # as they came
    framing: Framing  # as if for GET
    keep_alive: bool  # whether Connection lets the backend's connection live on; the framing may not
    keep_alive_timeout: float | None  # in seconds, as the backend announced it
    interim: bool  # 1xx but for 101: another response follows
    switching: bool  # 101
    has_date: bool
    plain: bool  # whether nothing must be added for an HTTP/1.1 client that stays
    ready: bool  # the same, and the backend's connection may live on with nothing to be learned of it
    length: int  # of the body, -1 where it is not told by a length
    whole: bytes = field(repr=False)  # start_and_fields with the last CRLF: what most clients get, as it is
    closing: bytes = field(repr=False)  # whole, for a client that is to go
    start_and_fields: bytes = field(repr=False)
    close_delimited: bytes = field(repr=False)
    for_head: bytes = field(repr=False)


def response_block(head: bytes, limits: HeadLimits, options: ForwardOptions) -> ResponseBlock:
    """Take in a response head with its blank line. Malformed with 502."""
    minor, status, reason, fields = parse_response(head, limits)
    framing = response_framing(status, minor, fields)
    if status == 101:
        _check_switching(minor, fields)
    lines = _forwarded_lines(minor, status, fields, options)
    common = b"HTTP/1.1 %d %b\r\n%b" % (status, reason, field_lines(lines))
    announced = _not_modified_framing(minor, fields) if status == 304 else framing
    plain = status != 101 and b"date" in names(lines)
    keep_alive, keep_alive_timeout = _keep_alive(minor, fields), _keep_alive_timeout(fields)
    start_and_fields = common + _framing(_CHUNKED if announced.body is Body.UNTIL_CLOSE else announced)
    return ResponseBlock(
        minor=minor,
        status=status,
        reason=reason,
        fields=fields,
        framing=framing,
        keep_alive=keep_alive,
        keep_alive_timeout=keep_alive_timeout,
        interim=status < 200 and status != 101,
        switching=status == 101,
        has_date=b"date" in names(lines),
        plain=plain,
        ready=plain and keep_alive and keep_alive_timeout is None,
        length=framing.length if framing.body is Body.LENGTH else -1,
        whole=start_and_fields + b"\r\n",
        closing=start_and_fields + b"Connection: close\r\n\r\n",
        start_and_fields=start_and_fields,
        close_delimited=common + _framing(_NO_BODY if announced.body is Body.CHUNKED else announced),
        for_head=common + _framing(announced),
    )


def _forwarded_lines(minor: int, status: int, fields: Fields, options: ForwardOptions) -> list[Line]:
    lines = end_to_end(fields)
    if status == 101:
        lines += [(b"Connection", b"upgrade"), (b"Upgrade", b", ".join(fields.values(b"upgrade")))]
    elif status < 200:
        return lines
    return apply_rules([*lines, via(minor, options.pseudonym)], options.response_remove, options.response_set)


def _framing(framing: Framing) -> bytes:
    return field_lines(framing_lines(framing))


def _not_modified_framing(minor: int, fields: Fields) -> Framing:
    """A 304 may tell the length that a 200 would have had. No body depends on it, so that a bad one is dropped."""
    try:
        framing = response_framing(200, minor, fields)
    except Malformed:
        return _NO_BODY
    return framing if framing.body is Body.LENGTH else _NO_BODY


def _check_switching(minor: int, fields: Fields) -> None:
    if minor == 0 or not fields.tokens(b"upgrade") or b"upgrade" not in fields.tokens(b"connection"):
        raise Malformed(502, "a 101 that doesn't say what it switches to")


def _keep_alive(minor: int, fields: Fields) -> bool:
    options = fields.tokens(b"connection")
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def _keep_alive_timeout(fields: Fields) -> float | None:
    for parameter in fields.tokens(b"keep-alive"):
        if found := _TIMEOUT.fullmatch(parameter):
            return float(found.group(1))
    return None
