"""What is thrown into the greenlets of a session.

Apart from the rest, which may be compiled: mypyc does not know gevent's classes, and would lay these out wrongly.
"""

from __future__ import annotations

from gevent import GreenletExit

from gproxy.core.termination import Ended


class Interrupted(GreenletExit):  # type: ignore[misc]  # gevent has no types
    """The session's greenlet is to end what it is at, under this code."""

    def __init__(self, code: Ended):
        self.code = code
        super().__init__(code)


class Stopped(GreenletExit):  # type: ignore[misc]  # gevent has no types
    """The rest of the body is of no use any more."""
