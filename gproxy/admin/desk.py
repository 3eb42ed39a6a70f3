"""Desk: what the handlers of the API have at hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gproxy.admin.answers import ApiError
from gproxy.admin.flips import Flip, Flips
from gproxy.admin.history import History
from gproxy.admin.questions import Questions
from gproxy.admin.streams import Streams
from gproxy.core.settings import Config
from gproxy.shared import Shared, Totals
from gproxy.upstream import Backend, Upstream

log = logging.getLogger("gproxy.admin")


class Instance(NamedTuple):
    """Which gproxy this is."""

    master: int  # its process id
    began: float  # when it did, in monotonic seconds
    generation: int
    addresses: Mapping[str, str]  # where each listener really listens


class Reload(NamedTuple):
    """How the last reload goes, or has gone."""

    number: int  # from 1; each look at the file is one
    outcome: str  # one of OUTCOMES
    why: str  # it has failed
    at: float  # monotonic seconds


OUTCOMES: Final = ("running", "done", "failed")


@dataclass
class Desk:
    instance: Instance
    config: Config
    shared: Shared
    totals: Totals
    upstreams: Mapping[str, Upstream]
    say: Callable[..., bool]  # tells the master; whether it was taken
    questions: Questions
    history: History
    flips: Flips
    streams: Streams
    reload: Reload | None = None  # none so far
    ending: bool = False  # sessions end, and nobody new is served
    clock: Callable[[], float] = time.monotonic

    def upstream(self, name: str) -> Upstream:
        if name not in self.upstreams:
            raise ApiError(404, f"there is no upstream {name[:100]!r}")
        return self.upstreams[name]

    def backend(self, upstream: str, name: str) -> Backend:
        for backend in self.upstream(upstream).backends:
            if backend.name == name:
                return backend
        raise ApiError(404, f"upstream {upstream[:100]!r} has no backend {name[:100]!r}")

    def flipped(
        self, kind: str, what: str, upstream: str = "", backend: str = "", *, why: str = "", who: str = ""
    ) -> None:
        """Who looks on is told."""
        self.flips.add(Flip(self.clock(), kind, what, upstream, backend, why, who))
        self.streams.ring()

    def tell(self, **order: Any) -> None:
        """All workers, by way of the master."""
        self.tell_master(said="tell", order=order)

    def tell_master(self, **message: Any) -> None:
        if not self.say(**message):
            raise ApiError(503, "the master process does not listen now; nothing was done")


class Request(NamedTuple):
    """What a handler is asked."""

    names: Mapping[str, str]  # of the path
    query: Mapping[str, str]
    body: Any  # checked by the route's schema; None where it takes none
    who: str  # the client, for the log
