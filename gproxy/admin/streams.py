"""Streams: clients who are told what goes on as it does, by server-sent events (HTML, section 9.2).

    event: snapshot   first: the history, the last flips, the state
    event: news       then, with each sample and each flip: what is new of them, the state as it is

Nothing is queued for a client: what it is told next is worked out when it has taken what came before. One that takes
nothing for the time that a request has is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from gevent.event import Event

from gproxy.admin.answers import ApiError

MOST_STREAMS: Final = 16
HEARTBEAT: Final = 10.0  # seconds of silence after which a comment says that the stream lives
RETRY: Final = 2000  # ms until a client comes back

Source = Callable[[tuple[int, int] | None], tuple[tuple[int, int], dict[str, Any]]]


class Patience(Protocol):
    """The time that a client has left: gevent's Timeout."""

    def cancel(self) -> None: ...

    def start(self) -> None: ...


class Streams:
    """All that are open. `source` tells what is new since a place in history and flips, and the place after it."""

    def __init__(self, source: Source):
        self._source = source
        self._open: set[Stream] = set()
        self._news = Event()
        self._events: dict[tuple[int, int] | None, tuple[tuple[int, int], bytes]] = {}  # of this version
        self.version = 0
        self.over = False

    def open(self) -> Stream:
        if len(self._open) >= MOST_STREAMS:
            raise ApiError(503, f"no more than {MOST_STREAMS} streams at once", (("Retry-After", "10"),))
        stream = Stream(self)
        self._open.add(stream)
        return stream

    def forget(self, stream: Stream) -> None:
        self._open.discard(stream)

    def ring(self) -> None:
        """There is news."""
        self.version += 1
        self._events.clear()
        news, self._news = self._news, Event()
        news.set()

    def end(self) -> None:
        """Nobody is told any more."""
        self.over = True
        self.ring()

    def wait(self) -> None:
        """For news, or HEARTBEAT seconds."""
        self._news.wait(HEARTBEAT)

    def event(self, place: tuple[int, int] | None) -> tuple[tuple[int, int], bytes]:
        """What is new since then, the place after it first. Clients at the same place share it."""
        if place not in self._events:
            after, news = self._source(place)
            kind = "snapshot" if place is None else "news"
            data = json.dumps(news, separators=(",", ":"))
            retry = f"retry: {RETRY}\n" if place is None else ""
            self._events[place] = after, f"{retry}event: {kind}\ndata: {data}\n\n".encode()
        return self._events[place]

    def __repr__(self) -> str:
        return f"<Streams {len(self._open)} of {MOST_STREAMS}, version {self.version}>"


class Stream:
    """One client's, as WSGI wants it: an iterable with `close`."""

    def __init__(self, streams: Streams):
        self._streams = streams
        self._seen = -1  # the version
        self._place: tuple[int, int] | None = None
        self.patience: Patience | None = None

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        """Wait for what comes next. The time that the client has counts from when there is something for it."""
        assert self.patience is not None
        self.patience.cancel()
        if self._seen == self._streams.version:
            self._streams.wait()
        if self._streams.over:
            raise StopIteration
        piece = b":\n\n"
        if self._seen != self._streams.version:
            self._seen = self._streams.version
            self._place, piece = self._streams.event(self._place)
        self.patience.start()
        return piece

    def close(self) -> None:
        self._streams.forget(self)
