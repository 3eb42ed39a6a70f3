"""The health of one backend, on two axes that don't know of each other.

Operational: what the checks say. A streak is the number of equal results in a row.

    state     result    streak needed   next
    -------   -------   -------------   -------
    UNKNOWN   success   1               UP         the first check decides at once
    UNKNOWN   failure   1               DOWN
    UP        success   -               UP
    UP        failure   fall            DOWN
    DOWN      success   rise            UP
    DOWN      failure   -               DOWN

Nothing leads back to UNKNOWN. A result that contradicts the state, without yet changing it,
leaves the state disputed, and the next check comes sooner.

Administrative: what an operator says.

    READY   takes sessions
    DRAIN   keeps its sessions and takes no new ones
    MAINT   is out of service

What the two mean for a new session, beside limits and ejection, is upstream.py's to judge.
"""

from __future__ import annotations

from enum import Enum

from gproxy.core.settings import HealthCheckSettings

JITTER = 0.1  # of an interval, either way, so that checks of many balancers don't march in step


class Operational(Enum):
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Administrative(Enum):
    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


class _Streak(Enum):
    """How many equal results in a row a transition needs."""

    ONE = "one"
    RISE = "rise"
    FALL = "fall"


# What is missing here leaves the state as it is.
_TRANSITIONS: dict[tuple[Operational, bool], tuple[_Streak, Operational]] = {
    (Operational.UNKNOWN, True): (_Streak.ONE, Operational.UP),
    (Operational.UNKNOWN, False): (_Streak.ONE, Operational.DOWN),
    (Operational.UP, False): (_Streak.FALL, Operational.DOWN),
    (Operational.DOWN, True): (_Streak.RISE, Operational.UP),
}


class BackendHealth:
    """Where a backend stands on both axes."""

    __slots__ = ("_last", "_operational", "_streak", "administrative")

    def __init__(self) -> None:
        self.administrative = Administrative.READY
        self._operational = Operational.UNKNOWN
        self._last: bool | None = None
        self._streak = 0

    @property
    def operational(self) -> Operational:
        return self._operational

    def told(self, state: Operational) -> bool:
        """Somebody else checks it, and says so; whether that is news. What came before counts no more."""
        news = state is not self._operational
        if news:
            self._operational, self._last, self._streak = state, None, 0
        return news

    @property
    def successes(self) -> int:
        """Successful checks in a row, up to the last one."""
        return self._streak if self._last is True else 0

    @property
    def failures(self) -> int:
        """Failed checks in a row, up to the last one."""
        return self._streak if self._last is False else 0

    @property
    def disputed(self) -> bool:
        """Whether the last check contradicts the state."""
        return self._last is not None and self._last is not (self._operational is Operational.UP)

    def observe(self, success: bool, rise: int, fall: int) -> bool:
        """Take one check's result; True only when it flips the state (leaving UNKNOWN is a flip)."""
        self._streak = self._streak + 1 if success is self._last else 1
        self._last = success
        transition = _TRANSITIONS.get((self._operational, success))
        if transition is None:
            return False
        streak, then = transition
        needed = {_Streak.ONE: 1, _Streak.RISE: rise, _Streak.FALL: fall}[streak]
        if self._streak < needed:
            return False
        self._operational = then
        return True

    def next_delay(self, settings: HealthCheckSettings, jitter: float) -> float:
        """Seconds until the next check; `jitter` from 0 to below 1 moves it by a tenth either way.

        As HAProxy's inter and fastinter: steady states, DOWN too, are checked each interval.
        """
        interval = min(settings.interval, settings.fast_interval) if self.disputed else settings.interval
        return interval * (1 - JITTER + 2 * JITTER * jitter)

    def __repr__(self) -> str:
        axes = f"{self._operational.value} {self.administrative.value}"
        return f"<BackendHealth {axes}{' disputed' if self.disputed else ''}, {self._history()}>"

    def _history(self) -> str:
        if self._last is None:
            return "not checked yet"
        noun = "success" if self._last else "failure"
        plural = "es" if self._last else "s"
        return f"1 {noun}" if self._streak == 1 else f"{self._streak} {noun}{plural} in a row"
