"""Passive health: a backend that sessions can't connect to, or that fails their requests, is left out for a while.

- `connect_failures` failed dials in a row eject it; a success in between starts the count again.
- So do `server_errors` responses of 500 and above in a row, where that is asked for.
- The n-th ejection lasts ``min(n * eject_for, max_eject_for)`` seconds. It ends by itself: the
  backend then needs as many failures as before to be ejected again.
- n decays: each span without ejection as long as the last one lasted takes 1 off it.
- The share of an upstream's backends that are ejected at once stays within
  `max_ejected_percent`, so that a fault of our own network can't empty it.

`now` is monotonic, in seconds.
"""

from __future__ import annotations

from gproxy.core.settings import PassiveHealthSettings


def may_eject(ejected_now: int, total: int, max_percent: int) -> bool:
    """Whether one more than `ejected_now` of `total` backends is within `max_percent`."""
    return (ejected_now + 1) * 100 <= total * max_percent


class Ejection:
    """The passive health of one backend."""

    __slots__ = ("_lasted", "errors", "failures", "times", "until")

    def __init__(self) -> None:
        self.failures = 0  # failed dials in a row
        self.errors = 0  # responses of 500 and above in a row
        self.times = 0  # how many ejections still count, as of the last one
        self.until = 0.0  # the end of the last ejection; 0 before any
        self._lasted = 0.0

    def ejected(self, now: float) -> bool:
        return now < self.until

    def succeeded(self) -> None:
        """A dial connected."""
        self.failures = 0

    def readmit(self, now: float) -> None:
        """End an ejection early: an operator says so, or the checks, which had found the backend down as well."""
        self.until = min(self.until, now)
        self.failures = self.errors = 0

    def eject(self, until: float) -> None:
        """An operator wants it out, whatever its sessions say. It counts for none of the later ones."""
        self.until = until
        self.failures = self.errors = 0

    def failed(self, settings: PassiveHealthSettings, now: float, may_eject: bool) -> bool:
        """A dial failed; True when that ejects the backend now.

        A failure that may not eject is kept: the next one ejects as soon as it may. One
        that comes during an ejection was dialled before it, and says nothing new.
        """
        if self.ejected(now):
            return False
        self.failures += 1
        if not settings.connect_failures or self.failures < settings.connect_failures or not may_eject:
            return False
        self._eject(settings, now)
        return True

    def responded(self, settings: PassiveHealthSettings, error: bool, now: float, may_eject: bool) -> bool:
        """A response came, of 500 and above if `error`; True when that ejects the backend now."""
        if not error:
            self.errors = 0
            return False
        if self.ejected(now):
            return False
        self.errors += 1
        if not settings.server_errors or self.errors < settings.server_errors or not may_eject:
            return False
        self._eject(settings, now)
        return True

    def _eject(self, settings: PassiveHealthSettings, now: float) -> None:
        self.times = self._remembered(now) + 1
        self._lasted = min(settings.eject_for * self.times, settings.max_eject_for)
        self.until = now + self._lasted
        self.failures = self.errors = 0

    def _remembered(self, now: float) -> int:
        """How many of the ejections so far still count."""
        if not self._lasted:
            return 0
        return max(0, self.times - int((now - self.until) / self._lasted))

    def __repr__(self) -> str:
        until = f"until {self.until:.1f}, times {self.times}" if self.times else "never ejected"
        return f"<Ejection {until}, {self.failures} failed in a row>"
