"""How long a backend's connection may be idle and still be lent: learned of the backend itself.

A server closes what is idle longer than its keep-alive time, often 2 to 5 s. A request that is sent just then is
lost, so connections are lent until a margin before. What is known of that time comes from

- promises, `Keep-Alive: timeout=5`;
- closings: connections that it closed while idle. A timer closes at any moment, after much the same idle time. A
  restart closes at one moment, after any idle time. So

      | closings                                          | what they are | shorten the limit for        |
      |---|---|---|
      | within a second, after alike times                | one sighting  | `DOUBT`                      |
      | within a second, after unlike times               | a restart     | nothing                      |
      | a sighting, and a later one after an alike time   | the timer     | `MEMORY` since the last seen |
      | after less than `LEAST`                           | chance        | nothing                      |

  A first sighting counts at once, since lending too late loses requests while lending too little only costs dials.
  It counts for a short time, since it may have been chance.

Nothing is known for ever: a limit that isn't confirmed ends, longer idle times are tried again, and a closing is
then seen by the pool before it can hurt, in all but the moment when it meets a request.

`now` is monotonic, times are in seconds.
"""

from __future__ import annotations

from math import inf

LEAST = 0.5  # no keep-alive time is as short; it may have been waiting for a slow client before we read its end
DOUBT = 60.0
MEMORY = 600.0
AT_ONCE = 1.0  # closings within it are one event


def lend_until(timeout: float) -> float:
    """A margin before a server's keep-alive time: a fifth, at least half a second, but never more than half."""
    return timeout - min(max(0.5, timeout / 5), timeout / 2)


def alike(one: float, other: float) -> bool:
    """Whether two idle times may be one timer's: servers look at their timers about once a second."""
    return abs(one - other) <= max(1.0, max(one, other) / 5)


class IdleLimit:
    """What is known of one backend's keep-alive time."""

    __slots__ = ("_confirmed", "_inherited", "_longest", "_promised", "_seen_at", "_shortest")

    def __init__(self) -> None:
        self._promised = _Shortest()
        self._confirmed = _Shortest()
        self._inherited = _Shortest()
        self._seen_at = -inf  # the last sighting: when its first closing was, and its idle times
        self._shortest = self._longest = inf

    def promised(self, timeout: float, now: float) -> None:
        """A response said for how long its connection would be kept."""
        self._promised.add(timeout, now)

    def inherit(self, limit: float, now: float) -> None:
        """A `limit` that another process has learned."""
        self._inherited.add(limit, now)

    def closed(self, idle: float, now: float) -> None:
        """The backend closed a connection that had been idle for so long."""
        if idle < LEAST:
            return
        if now - self._seen_at < AT_ONCE:
            self._shortest, self._longest = min(self._shortest, idle), max(self._longest, idle)
            return
        if now - self._seen_at < MEMORY and self._is_sighting() and alike(self._shortest, idle):
            self._confirmed.add(min(self._shortest, idle), now)
        self._seen_at, self._shortest, self._longest = now, idle, idle

    def limit(self, now: float) -> float:
        """Lend no connection that has been idle for so long; infinite when nothing is known."""
        known = min(self._promised.value(now), self._confirmed.value(now))
        if now - self._seen_at < DOUBT and self._is_sighting():
            known = min(known, self._shortest)
        own = inf if known == inf else lend_until(known)
        return min(own, self._inherited.value(now))

    def _is_sighting(self) -> bool:
        return alike(self._shortest, self._longest)

    def __repr__(self) -> str:
        return f"<IdleLimit promised {self._promised}, confirmed {self._confirmed}, last seen {self._shortest:g}>"


class _Shortest:
    """The smallest of the values of the last `MEMORY` seconds, or of half as many: two halves in turn."""

    __slots__ = ("_before", "_half", "_recent")

    def __init__(self) -> None:
        self._half = 0
        self._recent = self._before = inf  # of the present half, and of the one before it

    def add(self, value: float, now: float) -> None:
        self._turn(now)
        self._recent = min(self._recent, value)

    def value(self, now: float) -> float:
        self._turn(now)
        return min(self._recent, self._before)

    def _turn(self, now: float) -> None:
        half = int(now / (MEMORY / 2))
        if half > self._half:
            self._before = self._recent if half == self._half + 1 else inf
            self._recent = inf
            self._half = half

    def __repr__(self) -> str:
        return f"{min(self._recent, self._before):g}"
