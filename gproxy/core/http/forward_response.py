"""A response as it is sent to a client, worked out once for each distinct head.

Interim responses are forwarded as they come but for what ends at this hop: no rules and no Via (a gateway may
leave it out of responses, RFC 9110 section 7.6.3).
"""

from __future__ import annotations

import re

from gproxy.core.http.end_to_end import end_to_end, framing_line
from gproxy.core.http.fields import FieldLine, Fields
from gproxy.core.http.framing import response_framing
from gproxy.core.http.heads import parse_response
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed
from gproxy.core.http.options import ForwardOptions, Rules

_TIMEOUT = re.compile(rb"timeout[ \t]*=[ \t]*\"?([0-9]{1,9})\"?")
_NO_BODY = Framing(Body.NONE)
_CHUNKED = Framing(Body.CHUNKED)


class ResponseBlock:
    """A response head. The three forms lack a last CRLF, and Connection but for 101: the session adds them.

    | form | for | says where the body ends by |
    |---|---|---|
    | start_and_fields | an HTTP/1.1 client | Content-Length or chunked; a body until close becomes chunked |
    | close_delimited | an HTTP/1.0 client, HEAD included | Content-Length or the close |
    | for_head | the answer to HEAD | as the backend did, though no body follows |
    """

    __slots__ = ("_announced", "_unframed", "fields", "framing", "has_date", "interim", "keep_alive",
                 "keep_alive_timeout", "length", "minor", "plain", "ready", "reason", "start_and_fields", "status",
                 "switching", "whole")  # fmt: skip

    def __init__(self, head: bytes, limits: HeadLimits, options: ForwardOptions):
        """Take in a response head with its blank line. Malformed with 502."""
        fields: Fields
        minor, status, reason, fields = parse_response(head, limits)
        framing = response_framing(status, minor, fields)
        if status == 101:
            _check_switching(minor, fields)
        self.minor = minor  # 0 or 1
        self.status = status
        self.reason = reason
        self.fields = fields  # as they came
        self.framing = framing  # as if for GET
        self.length = framing.length if framing.body is Body.LENGTH else -1  # of the body, where a length tells it
        self.interim = status < 200 and status != 101  # another response follows
        self.switching = status == 101
        # Whether Connection lets the backend's connection live on; the framing may not.
        self.keep_alive = _keep_alive(minor, fields)
        self.keep_alive_timeout = _keep_alive_timeout(fields)  # in seconds, as the backend announced it

        self.has_date = False
        self._unframed = b"HTTP/1.1 %d %b\r\n%b" % (status, reason, self._field_lines(options.response))
        self._announced = _not_modified_framing(minor, fields) if status == 304 else framing
        until_close = self._announced.body is Body.UNTIL_CLOSE
        self.start_and_fields = self._unframed + framing_line(_CHUNKED if until_close else self._announced)
        # With the last CRLF: what most clients get, as it is. `plain` if nothing must be added for an HTTP/1.1 client
        # that stays, and `ready` if the backend's connection may live on, too, with nothing to be learned of it.
        self.whole = self.start_and_fields + b"\r\n"
        self.plain = not self.switching and self.has_date
        self.ready = self.plain and self.keep_alive and self.keep_alive_timeout is None

    @property
    def closing(self) -> bytes:
        """`whole`, for a client that is to go."""
        return self.start_and_fields + b"Connection: close\r\n\r\n"

    @property
    def close_delimited(self) -> bytes:
        chunked = self._announced.body is Body.CHUNKED
        return self._unframed + framing_line(_NO_BODY if chunked else self._announced)

    @property
    def for_head(self) -> bytes:
        return self._unframed + framing_line(self._announced)

    def _field_lines(self, rules: Rules) -> bytes:
        """What is sent on, as it is sent, without the framing."""
        wires = []
        line: FieldLine
        for line in end_to_end(self.fields) if self.interim else end_to_end(self.fields, rules.gone):
            wires.append(line.wire)
            if line.canonical == b"date":
                self.has_date = True
        if self.switching:
            wires.append(b"Connection: upgrade\r\nUpgrade: %b\r\n" % b", ".join(self.fields.values(b"upgrade")))
        if not self.interim:
            wires += (rules.via[self.minor], rules.added)
            self.has_date = self.has_date or rules.sets_date
        return b"".join(wires)

    def __repr__(self) -> str:
        return f"<ResponseBlock {self.status} {self.fields!r}>"


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
