"""A clock that the test moves."""

from __future__ import annotations


class FakeClock:
    """Passed where code wants `time.monotonic`; it stands still until it is told."""

    def __init__(self, now: float = 1000.0):
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """The new time."""
        self.now += seconds
        return self.now
