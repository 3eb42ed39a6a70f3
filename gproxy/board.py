"""BoardReader: a worker's eyes on what the steward and the operators say of the backends."""

from __future__ import annotations

from collections.abc import Iterable

import gevent

from gproxy.shared import Shared
from gproxy.upstream import Upstream

_STEP = 0.01  # seconds between looks at whether the first checks are over


class BoardReader:
    """Brings the backends of one worker up to date."""

    def __init__(self, shared: Shared, upstreams: Iterable[Upstream]):
        self._shared = shared
        self._seen = -1
        self._backends = []
        for upstream in upstreams:
            upstream.speaks = False
            for backend in upstream.backends:
                line = shared.line(upstream.name, backend.name)
                backend.inherit(line)
                self._backends.append((backend, line))

    def wait_for_checks(self, timeout: float) -> None:
        """Wait for the first round of checks, for at most so many seconds."""
        with gevent.Timeout(timeout, False):
            while not self._shared.checked:
                gevent.sleep(_STEP)
        self.look()

    def look(self) -> None:
        """Take in what has changed."""
        version = self._shared.version
        if version == self._seen:
            return
        self._seen = version
        for backend, line in self._backends:
            backend.follow(line)

    def __repr__(self) -> str:
        return f"<BoardReader at version {self._seen}>"
