"""The proxy's own responses: what a client is told that no backend answers.

    HTTP/1.1 503 Service Unavailable
    Date, Content-Type, Content-Length, Cache-Control: no-store, X-Request-ID, Retry-After, Connection

    503 Service Unavailable: no backend can serve
    request id: 0af7651916cd43dd8448eb211c80319c

The body is JSON for a client that asks for it, or a file of the operator's. What came from
the client can be in the reason and the request id: both are escaped in a body of ours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

REASONS: Final[dict[int, str]] = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

TEXT: Final = b"text/plain; charset=utf-8"
JSON: Final = b"application/json"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_TEXT = re.compile(rb"[^ -~]|[\\<>&]")  # the last three for a browser that would guess at HTML
_NOT_A_VALUE = re.compile(rb"[^!-~]")
_QUALITY = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110 12.4.2

_Bytes = bytes  # for the annotations of a class with a method of that name


class Answers:
    """Makes responses; `files` has bodies in the place of ours, with their content type, by status."""

    def __init__(self, files: Mapping[int, tuple[_Bytes, _Bytes]]):
        self._files = dict(files)

    def __repr__(self) -> str:
        return f"<Answers files={sorted(self._files)}>"

    def bytes(
        self,
        status: int,
        *,
        reason: str,
        accept: _Bytes | None,
        request_id: _Bytes,
        retry_after: float | None,
        date: _Bytes,
        head_only: bool,
        keep_alive: bool,
        more: _Bytes = b"",
    ) -> _Bytes:
        """A whole response. `reason` is for people, `retry_after` in seconds, `accept` the client's field.

        An empty `request_id` is left out. `more` are further fields, each with its line end. `keep_alive` says nothing
        to an HTTP/1.0 client, which would need a `Connection: keep-alive`: close its connection.
        """
        body, content_type = self._files.get(status) or _body(status, reason, accept, request_id)
        lines = [
            b"HTTP/1.1 %d %b" % (status, _phrase(status).encode()),
            b"Date: " + date,
            b"Content-Type: " + content_type,
            b"Content-Length: %d" % len(body),
            b"Cache-Control: no-store",
        ]
        if request_id:
            lines.append(b"X-Request-ID: " + _NOT_A_VALUE.sub(b"_", request_id))
        if retry_after is not None:
            lines.append(b"Retry-After: %d" % math.ceil(retry_after))
        if not keep_alive:
            lines.append(b"Connection: close")
        return b"\r\n".join([*lines, more, b"" if head_only else body])


def _body(status: int, reason: str, accept: bytes | None, request_id: bytes) -> tuple[bytes, bytes]:
    """A body of ours and its content type."""
    if wants_json(accept):
        return _json(status, reason, request_id), JSON
    return _text(status, reason, request_id), TEXT


def _text(status: int, reason: str, request_id: bytes) -> bytes:
    message = b": " + _escape(reason.encode(errors="backslashreplace")) if reason else b""
    second = b"request id: %b\n" % _escape(request_id) if request_id else b""
    return b"%d %b%b\n%b" % (status, _phrase(status).encode(), message, second)


def _json(status: int, reason: str, request_id: bytes) -> bytes:
    identity = request_id.decode("latin-1")
    fields = {"status": status, "error": _phrase(status), "message": reason, "request_id": identity}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _phrase(status: int) -> str:
    return REASONS.get(status, "Error")


def _escape(data: bytes) -> bytes:
    return _NOT_TEXT.sub(lambda match: b"\\x%02x" % ord(match[0]), data)


def wants_json(accept: bytes | None) -> bool:
    """Whether an Accept field prefers JSON to text: names it, and with no lower weight.

    `*/*` is no wish for JSON, and whoever prefers HTML is a browser, which shows plain text too.
    """
    if not accept or b"application/" not in accept.lower():
        return False
    ranges = dict(_media_ranges(accept))
    as_json = max((quality for name, quality in ranges.items() if _is_json(name)), default=0.0)
    as_text = max(ranges.get(name, 0.0) for name in (b"text/plain", b"text/html", b"text/*", b"*/*"))
    return as_json > 0 and as_json >= as_text


def _is_json(name: bytes) -> bool:
    return name == b"application/json" or (name.startswith(b"application/") and name.endswith(b"+json"))


def _media_ranges(accept: bytes) -> Iterable[tuple[bytes, float]]:
    """Each range in lower case with its weight, 0 where that is not a weight (RFC 9110 12.5.1)."""
    for item in accept.lower().split(b","):
        name, *parameters = (part.strip(b" \t") for part in item.split(b";"))
        weights = [value[2:] for value in parameters if value.startswith(b"q=")]
        yield name, _quality(weights[0]) if weights else 1.0


def _quality(weight: bytes) -> float:
    return float(weight) if _QUALITY.fullmatch(weight) else 0.0


def http_date(seconds: float) -> bytes:
    """Seconds since the epoch as an IMF-fixdate: `Mon, 23 Nov 2026 12:00:00 GMT` (RFC 9110 5.6.7)."""
    return _date_of_second(int(seconds))


@lru_cache(maxsize=2)  # hot: asked for many times a second, and the next second is never far
def _date_of_second(seconds: int) -> bytes:
    # Not strftime, whose names are those of the locale.
    at = datetime.fromtimestamp(seconds, UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02d} {month} {at.year:04d} {at:%H:%M:%S} GMT".encode()
