"""Retries: which failure of a request allows another try, and the budget for all of them.

A request may be sent again when the backend can't have seen it, or when it does no harm twice (RFC 9110 9.2.2):

    | failure     | what is known                                         | verdict                                   |
    |---|---|---|
    | DIAL        | nothing was sent                                      | next backend                              |
    | REUSED_DIED | a pooled connection ended before a response byte; it  | harmless twice: a fresh connection        |
    |             | may have been closed before the request arrived       |                                           |
    | FRESH_DIED  | the same of a new one: the backend may have run it    | harmless twice: next backend              |
    | TIMED_OUT   | no response head in time: it may be running still     | give up                                   |
    | BROKEN      | the client may have part of the response              | give up                                   |

- Harmless twice means an idempotent method, and a body that is still at hand.
- `retries` bounds the tries of other backends. A fresh connection is no try of another one: that a pooled
  connection dies is our doing, and happens once, since the fresh one can't die as a reused one.

The budget: an outage must not turn each session into several.

- A retry is allowed while it stays within a fifth of the requests of the last ten seconds,
  or within 3 in ten seconds where that is more.
- The window slides by whole seconds: it holds the present one and the nine before it. So
  memory and the cost of a look are constant, whatever the load.

`now` is monotonic, in seconds, and never goes back.
"""

from __future__ import annotations

from enum import Enum, auto

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
REPLAY_LIMIT = 64 * 1024  # bytes of a request's body that are kept until its response begins

WINDOW = 10  # seconds
SHARE = 5  # one retry for so many requests
LEAST = 3  # retries in a window that are always allowed, so that a quiet proxy may retry at all


class Failure(Enum):
    """What became of a try, up to the first byte of its response and after it; for people."""

    DIAL = "it could not be connected"
    REUSED_DIED = "its idle connection ended before a response, as idle ones may"
    FRESH_DIED = "it ended the connection before a response"
    TIMED_OUT = "it did not answer in time"
    BROKEN = "it broke its response off"


class Verdict(Enum):
    FRESH_CONNECTION = auto()  # to whichever backend, but not a pooled one
    NEXT_BACKEND = auto()
    GIVE_UP = auto()


_WHEN_HARMLESS = {Failure.REUSED_DIED: Verdict.FRESH_CONNECTION, Failure.FRESH_DIED: Verdict.NEXT_BACKEND}


def retry_verdict(failure: Failure, *, idempotent: bool, replayable: bool, attempts: int, retries: int) -> Verdict:
    """What to do after a failure. `attempts` counts the tries so far, the failed one included.

    The budget is asked by the caller, who knows the time: `RetryBudget.may_retry`.
    """
    if failure is Failure.DIAL:
        verdict = Verdict.NEXT_BACKEND
    elif idempotent and replayable:
        verdict = _WHEN_HARMLESS.get(failure, Verdict.GIVE_UP)
    else:
        verdict = Verdict.GIVE_UP
    exhausted = verdict is Verdict.NEXT_BACKEND and attempts > retries
    return Verdict.GIVE_UP if exhausted else verdict


def why_not_again(*, idempotent: bool, replayable: bool, exhausted: bool) -> str:
    """Of a request whose connection has died, and which is given up; `exhausted` where the budget is."""
    if not idempotent:
        return "to repeat it might do harm"
    if not replayable:
        return "its body is no longer at hand"
    return "the retry budget is spent" if exhausted else "its retries are used up"


class RetryBudget:
    """The requests and retries of the last ten seconds, for one upstream."""

    __slots__ = ("_requests", "_requests_in", "_retries", "_retries_in", "_second", "pending")

    def __init__(self) -> None:
        self.pending = 0  # requests since the last look: hot code adds to it, and the next look dates them
        self._second = 0
        self._requests = 0  # the sums of the two lists below
        self._retries = 0
        self._requests_in = [0] * WINDOW  # by second, modulo the window
        self._retries_in = [0] * WINDOW

    def request(self, now: float) -> None:
        """A new request, or tcp session: not a retry of one."""
        self.pending += 1
        self.look(now)

    def look(self, now: float) -> None:
        """Date the requests that are pending; at least once a second or so."""
        slot = self._slot(now)
        self._requests_in[slot] += self.pending
        self._requests += self.pending
        self.pending = 0

    def may_retry(self, now: float) -> bool:
        """Whether one more retry is within the budget. Ask, then tell `retried`."""
        self.look(now)
        return self._retries < max(LEAST, self._requests // SHARE)

    def retried(self, now: float) -> None:
        slot = self._slot(now)
        self._retries_in[slot] += 1
        self._retries += 1

    def _slot(self, now: float) -> int:
        """The place of the present second, after what left the window is forgotten."""
        second = int(now)
        if second > self._second:
            for passed in range(min(second - self._second, WINDOW)):
                self._forget((second - passed) % WINDOW)
            self._second = second
        return self._second % WINDOW

    def _forget(self, slot: int) -> None:
        self._requests -= self._requests_in[slot]
        self._retries -= self._retries_in[slot]
        self._requests_in[slot] = self._retries_in[slot] = 0

    def __repr__(self) -> str:
        return f"<RetryBudget {self._retries} retries of {max(LEAST, self._requests // SHARE)} in {WINDOW} s>"
