"""What there is to say about a session, or an http exchange, that has ended."""

from __future__ import annotations

from typing import Any, NamedTuple

from gproxy.core.termination import Ended


class SessionRecord(NamedTuple):
    """A session that ended. A named tuple, because it is the cheapest of the immutable ones to make."""

    client: str
    listener: str
    upstream: str
    backend: str  # "" if none served it
    started: float  # wall clock, seconds since the epoch
    tw: float | None  # seconds waiting for a backend; None: never reached
    tc: float | None  # seconds connecting to it; None: never connected
    tt: float | None  # seconds from accept to close
    bytes_in: int  # client to backend
    bytes_out: int  # backend to client
    code: str
    active: int  # open sessions when this one ended, itself included: of the process,
    listener_active: int  # of its listener,
    upstream_active: int  # of its upstream,
    backend_active: int  # of its backend
    retries: int
    reused: bool


class ExchangeRecord(NamedTuple):
    """A request and its response, or what was known of them when their session ended badly.

    The names follow HAProxy's timers. The bytes of the request line and the request id are
    as they came, empty where they were never read: whoever writes them out escapes them.
    """

    client: str
    listener: str
    upstream: str  # "" if the request was refused before it was routed
    backend: str  # the one tried last; "" if none was
    started: float  # wall clock, seconds since the epoch: when the request began
    tr: float | None  # seconds from the request's first byte to the end of its head; None: never reached
    tw: float | None  # seconds waiting for a connection slot
    tc: float | None  # seconds connecting; 0 on a pooled connection
    tresp: float | None  # seconds from the request sent to the response's head
    ta: float | None  # seconds of all of it, to the response's last byte
    status: int  # as sent to the client; 0 where none was
    bytes_in: int  # client to backend
    bytes_out: int  # backend to client
    code: str
    active: int  # open sessions, as in SessionRecord
    listener_active: int
    upstream_active: int
    backend_active: int
    retries: int
    reused: bool | None  # None: no connection to a backend
    method: bytes
    target: bytes
    version: bytes  # such as HTTP/1.1
    request_id: bytes


class RecordSink:
    """Where sessions hand in their records: the access log, or a test. Must not block."""

    def session(self, record: SessionRecord) -> object:
        raise NotImplementedError

    def exchange(self, record: ExchangeRecord) -> object:
        raise NotImplementedError

    def plain(self, *told: Any) -> object:
        """An exchange that waited for nothing and was not tried again: most of them, so that a sink may take it
        without a record. `told` is what `plain_record` wants.
        """
        return self.exchange(plain_record(*told))


def plain_record(
    client: str, listener: str, upstream: str, backend: str, started: float, tresp: float, ta: float,
    status: int, bytes_in: int, bytes_out: int, active: int, listener_active: int, upstream_active: int,
    backend_active: int, reused: bool, method: bytes, target: bytes, request_id: bytes,
) -> ExchangeRecord:  # fmt: skip
    """The record of a plain exchange; the names are the record's."""
    return ExchangeRecord(
        client, listener, upstream, backend, started, 0.0, 0.0, 0.0, tresp, ta, status, bytes_in, bytes_out,
        Ended.NORMAL, active, listener_active, upstream_active, backend_active, 0, reused,
        method, target, b"HTTP/1.1", request_id,
    )  # fmt: skip
