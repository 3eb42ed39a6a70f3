"""One line per finished tcp session or http exchange, in the spirit of HAProxy's tcplog and httplog.

    127.0.0.1:51234 [2026-11-23T12:00:00.123Z] web app/b1 0/1/35 1234/5678 -- 1/1/1/1 0 reused
    127.0.0.1:51234 [2026-11-23T12:00:00.123Z] web app/b1 0/0/1/34/35 200 1234/5678 -- 1/1/1/1 0 reused
        "GET /a?b=c HTTP/1.1" 0af7651916cd43dd8448eb211c80319c                (on the same line)

| field | |
|---|---|
| client | address of the client |
| [started] | when it was accepted, http: when the request began; UTC |
| listener | name |
| upstream/backend | names; the backend tried last, `<none>` if none was |
| Tw/Tc/Tt | tcp, ms: waiting for a backend, connecting, the whole session; -1: never reached |
| TR/Tw/Tc/Tr/Ta | http, ms: reading the head, waiting, connecting, the backend's answer, all of it |
| status | http: as sent to the client; 0: none was |
| bytes_in/bytes_out | client to backend / backend to client |
| code | termination code, two letters |
| active/listener/upstream/backend | sessions open when it ended: process, listener, upstream, backend |
| retries | further backends tried |
| connection | `reused`, `fresh`, or `-` if there was none |
| "request" | http: method, target and version, `<BADREQ>` if the head was never read |
| request id | http: what X-Request-ID says, `-` if there was none |

One space between fields. A field holds no space, but for the two of the request: in it,
spaces, quotes, backslashes, control characters and whatever is not ASCII stand as `\\x20` or
`\\u20ac`, so that nothing that comes from outside can forge a field or a line.
JSON lines have the same fields by name; there, a timer never reached is -1 too.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from gproxy.core.record import ExchangeRecord, RecordSink, SessionRecord, plain_record

_UNSAFE = re.compile(r'[^!-~]|["\\]')
# To be compared with what is translated: a visible byte stays, any other becomes another one.
_VISIBLE = bytes(ord("-") if _UNSAFE.match(chr(byte)) else byte for byte in range(256))

_EXCHANGE = b'%b [%b.%03dZ] %b %d/%d/%d/%d/%d %d %d/%d %b %d/%d/%d/%d %d %b "%b" %b'
_PLAIN = b'%b [%b.%03dZ] %b 0/0/0/%d/%d %d %d/%d -- %d/%d/%d/%d 0 reused "%b %b HTTP/1.1" %b'
_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make one for each line
_CONNECTION = {True: "reused", False: "fresh", None: "-"}
_CONNECTION_BYTES = {reused: word.encode() for reused, word in _CONNECTION.items()}


class Sink(Protocol):
    """Where lines go: a `LogSink`, or a list's `append` in a test. Must not block."""

    def write(self, line: str | bytes) -> object: ...


class AccessLog(RecordSink):
    """Writes a line per session or exchange; `format` is `text` or `json`. About 3 us a text line."""

    def __init__(self, format: str, sink: Sink, *, at_once: int = 1):
        """Of so many plain exchanges the lines are made together; `catch_up` makes those that wait."""
        self._session_line, self._exchange_line = _FORMATS[format]
        self._plain_line = plain_text_line if format == "text" else self._record_line
        self._waiting: list[tuple[Any, ...]] = []  # what was told of plain exchanges whose lines are to be made
        self._at_once = at_once
        self._sink = sink

    def session(self, record: SessionRecord) -> None:
        self.catch_up()
        self._sink.write(self._session_line(record))

    def exchange(self, record: ExchangeRecord) -> None:
        self.catch_up()
        self._sink.write(self._exchange_line(record))

    def plain(self, *told: Any) -> None:
        """As RecordSink has it. The line is made with many others, before the sink is flushed or another line comes:
        in a row, they cost half.
        """
        self._waiting.append(told)
        if len(self._waiting) >= self._at_once:
            self.catch_up()

    def catch_up(self) -> None:
        """Write the lines of the plain exchanges that wait for it."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for told in waiting:
                self._sink.write(self._plain_line(*told))

    def _record_line(self, *told: Any) -> str | bytes:
        return self._exchange_line(plain_record(*told))


def plain_text_line(
    client: str, listener: str, upstream: str, backend: str, started: float, tresp: float, ta: float,
    status: int, bytes_in: int, bytes_out: int, active: int, listener_active: int, upstream_active: int,
    backend_active: int, reused: bool, method: bytes, target: bytes, request_id: bytes,
) -> bytes:  # fmt: skip
    """The same line as `exchange_text_line` makes, without a record."""
    outside = target + request_id
    if not reused or outside.translate(_VISIBLE) != outside:
        return exchange_text_line(plain_record(
            client, listener, upstream, backend, started, tresp, ta, status, bytes_in, bytes_out, active,
            listener_active, upstream_active, backend_active, reused, method, target, request_id,
        ))  # fmt: skip
    ms = int(started * 1000)
    return _PLAIN % (
        _client(client), _second_bytes(ms // 1000), ms % 1000, _place_bytes(listener, upstream, backend),
        int(tresp * 1000), int(ta * 1000), status, bytes_in, bytes_out, active, listener_active, upstream_active,
        backend_active, method, target, request_id,
    )  # fmt: skip


def text_line(r: SessionRecord) -> str:
    """The tcp line of the module's docstring, without its newline."""
    return (
        f"{_escape(r.client)} [{timestamp(r.started)}] {_place(r.listener, r.upstream, r.backend)} "
        f"{_ms(r.tw)}/{_ms(r.tc)}/{_ms(r.tt)} {r.bytes_in}/{r.bytes_out} {r.code} "
        f"{r.active}/{r.listener_active}/{r.upstream_active}/{r.backend_active} {r.retries} {_connection(r)}"
    )


def exchange_text_line(record: ExchangeRecord) -> bytes:
    """The http line of the module's docstring, without its newline."""
    # Hot, once per request: the record is unpacked at once, because each attribute costs a call,
    # and one formatting of bytes is a third cheaper than a str with its encoding.
    (client, listener, upstream, backend, started, tr, tw, tc, tresp, ta, status, bytes_in, bytes_out, code,
     active, listener_active, upstream_active, backend_active, retries, reused,
     method, target, version, request_id) = record  # fmt: skip
    second, ms = divmod(int(started * 1000), 1000)
    request = b"%b %b %b" % (method, target, version)
    outside = b"".join((method, target, version, request_id))
    if not method or not request_id or outside.translate(_VISIBLE) != outside:
        request, request_id = _request(record), _escape_bytes(request_id)
    return _EXCHANGE % (
        _client(client), _second_bytes(second), ms, _place_bytes(listener, upstream, backend),
        # Most are below a millisecond, where int() and its call can be spared.
        -1 if tr is None else 0 if tr < 0.001 else int(tr * 1000),
        -1 if tw is None else 0 if tw < 0.001 else int(tw * 1000),
        -1 if tc is None else 0 if tc < 0.001 else int(tc * 1000),
        -1 if tresp is None else 0 if tresp < 0.001 else int(tresp * 1000),
        -1 if ta is None else 0 if ta < 0.001 else int(ta * 1000),
        status, bytes_in, bytes_out, code.encode(),
        active, listener_active, upstream_active, backend_active, retries, _CONNECTION_BYTES[reused],
        request, request_id,
    )  # fmt: skip


def json_line(r: SessionRecord) -> str:
    """One JSON object with the fields of the text line, times in ms, without its newline."""
    fields = r._asdict()
    _set_common(fields, ("tw", "tc", "tt"))
    fields["connection"] = _connection(r)
    del fields["reused"]
    return _encode(fields)


def exchange_json_line(r: ExchangeRecord) -> str:
    """The same for an exchange; the bytes of its request are shown as Latin-1, null where there are none."""
    fields = r._asdict()
    _set_common(fields, ("tr", "tw", "tc", "tresp", "ta"))
    fields["upstream"] = r.upstream or None
    fields["connection"] = _CONNECTION[fields.pop("reused")]
    for part in ("method", "target", "version", "request_id"):
        fields[part] = fields.pop(part).decode("latin-1") or None  # popped, so that they stay last
    return _encode(fields)


def _set_common(fields: dict[str, Any], timers: tuple[str, ...]) -> None:
    fields["started"] = timestamp(fields["started"])
    fields["backend"] = fields["backend"] or None
    for timer in timers:
        fields[timer] = _ms(fields[timer])


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-23T12:00:00.123Z`."""
    whole, ms = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{ms:03d}Z"


@lru_cache(maxsize=256)  # sessions end in another order than they began, so one second would not do
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@lru_cache(maxsize=256)
def _second_bytes(seconds: int) -> bytes:
    return _second(seconds).encode()


def _escape(text: str) -> str:
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text or "-"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_bytes(data: bytes) -> bytes:
    return _escape(data.decode("latin-1")).encode()


def _request(r: ExchangeRecord) -> bytes:
    """What stands between the quotes, of a request that may be anything."""
    if not r.method:
        return b"<BADREQ>"
    return b" ".join(_escape_bytes(part) for part in (r.method, r.target, r.version))


@lru_cache(maxsize=1024)  # names of the configuration; clients must not push them out
def _place(listener: str, upstream: str, backend: str) -> str:
    return f"{_escape(listener)} {_escape(upstream)}/{_escape(backend) if backend else '<none>'}"


@lru_cache(maxsize=1024)
def _place_bytes(listener: str, upstream: str, backend: str) -> bytes:
    return _place(listener, upstream, backend).encode()


@lru_cache(maxsize=4096)  # a keep-alive client has many exchanges
def _client(client: str) -> bytes:
    return _escape(client).encode()


def _ms(seconds: float | None) -> int:
    return -1 if seconds is None else int(seconds * 1000)


def _connection(r: SessionRecord) -> str:
    return "reused" if r.reused else "-" if r.tc is None else "fresh"


_Lines = tuple[Callable[[SessionRecord], str], Callable[[ExchangeRecord], str | bytes]]
_FORMATS: dict[str, _Lines] = {
    "text": (text_line, exchange_text_line),
    "json": (json_line, exchange_json_line),
}
