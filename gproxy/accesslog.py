"""One line per finished tcp session, in the spirit of HAProxy's tcplog.

    127.0.0.1:51234 [2026-11-23T12:00:00.123Z] web app/b1 0/1/35 1234/5678 -- 1/1/1/1 0 reused

| field | |
|---|---|
| client | address of the client |
| [started] | when it was accepted, UTC |
| listener | name |
| upstream/backend | names; the backend tried last, `<none>` if none was |
| Tw/Tc/Tt | ms: waiting for a backend, connecting, the whole session; -1: never reached |
| bytes_in/bytes_out | client to backend / backend to client |
| code | termination code, two letters |
| active/listener/upstream/backend | sessions open when it ended: process, listener, upstream, backend |
| retries | further backends tried |
| connection | `reused`, `fresh`, or `-` if there was none |

Ten fields, one space apart. A field holds no space: in it, spaces, quotes,
backslashes, control characters and whatever is not ASCII stand as `\\x20` or
`\\u20ac`, so that no name that comes from outside can forge a field or a line.
JSON lines have the same fields by name; there, a timer never reached is -1 too.
"""

from __future__ import annotations

import json
import re
import time
from functools import lru_cache
from typing import Protocol

from gproxy.core.record import SessionRecord

_UNSAFE = re.compile(r'[^!-~]|["\\]')


class Sink(Protocol):
    """Where lines go: a `LogSink`, or a list's `append` in a test. Must not block."""

    def write(self, line: str) -> object: ...


class AccessLog:
    """Writes a line per session; `format` is `text` or `json`. About 3 us a text line."""

    def __init__(self, format: str, sink: Sink):
        self._line = _FORMATS[format]
        self._sink = sink

    def session(self, record: SessionRecord) -> None:
        self._sink.write(self._line(record))


def text_line(r: SessionRecord) -> str:
    """The line of the module's docstring, without its newline."""
    backend = _name(r.backend) if r.backend else "<none>"
    return (
        f"{_escape(r.client)} [{timestamp(r.started)}] {_name(r.listener)} {_name(r.upstream)}/{backend} "
        f"{_ms(r.tw)}/{_ms(r.tc)}/{_ms(r.tt)} {r.bytes_in}/{r.bytes_out} {r.code} "
        f"{r.active}/{r.listener_active}/{r.upstream_active}/{r.backend_active} {r.retries} {_connection(r)}"
    )


def json_line(r: SessionRecord) -> str:
    """One JSON object with the fields of the text line, times in ms, without its newline."""
    fields = r._asdict()
    fields["started"] = timestamp(r.started)
    fields["backend"] = r.backend or None
    for timer in ("tw", "tc", "tt"):
        fields[timer] = _ms(fields[timer])
    fields["connection"] = _connection(r)
    del fields["reused"]
    return json.dumps(fields, separators=(",", ":"))


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-23T12:00:00.123Z`."""
    whole, ms = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{ms:03d}Z"


@lru_cache(maxsize=256)  # sessions end in another order than they began, so one second would not do
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _escape(text: str) -> str:
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text or "-"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_name = lru_cache(maxsize=1024)(_escape)  # for names of the configuration; clients would push them out


def _ms(seconds: float | None) -> int:
    return -1 if seconds is None else int(seconds * 1000)


def _connection(r: SessionRecord) -> str:
    return "reused" if r.reused else "-" if r.tc is None else "fresh"


_FORMATS = {"text": text_line, "json": json_line}
