"""What there is to say about a session that has ended."""

from __future__ import annotations

from typing import NamedTuple, Protocol


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


class RecordSink(Protocol):
    """Where a session hands in its record: the access log, or a test. Must not block."""

    def session(self, record: SessionRecord) -> object: ...
