"""The retry budget: an outage must not turn each session into several.

- A retry is allowed while it stays within a fifth of the requests of the last ten seconds,
  or within 3 in ten seconds where that is more.
- The window slides by whole seconds: it holds the present one and the nine before it. So
  memory and the cost of a look are constant, whatever the load.

`now` is monotonic, in seconds, and never goes back.
"""

from __future__ import annotations

WINDOW = 10  # seconds
SHARE = 5  # one retry for so many requests
LEAST = 3  # retries in a window that are always allowed, so that a quiet proxy may retry at all


class RetryBudget:
    """The requests and retries of the last ten seconds, for one upstream."""

    __slots__ = ("_requests", "_requests_in", "_retries", "_retries_in", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._requests = 0  # the sums of the two lists below
        self._retries = 0
        self._requests_in = [0] * WINDOW  # by second, modulo the window
        self._retries_in = [0] * WINDOW

    def request(self, now: float) -> None:
        """A new request, or tcp session: not a retry of one."""
        slot = self._slot(now)
        self._requests_in[slot] += 1
        self._requests += 1

    def may_retry(self, now: float) -> bool:
        """Whether one more retry is within the budget. Ask, then tell `retried`."""
        self._slot(now)
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
