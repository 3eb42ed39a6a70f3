"""What the processes hold in the course of time, and whether it grows.

A single reading says little: allocators keep what they had. So a leak is a trend: of one process, over readings at
rest, after its first third and ten minutes, by the median of all slopes between two of them (Theil and Sen), which a
few odd readings can't move.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEAST_READINGS = 9
WARM_UP = 1 / 3  # of the readings
WARM_UP_SECONDS = 600.0  # of a process: until what has a bound is full, such as stories and remembered heads
LEAK_BYTES_PER_HOUR = 24 << 20
LEAK_BYTES = 3 << 20  # over all that was seen: less is noise


@dataclass(frozen=True)
class Reading:
    """Of one process. `seconds` since the run began."""

    seconds: float
    name: str
    pid: int
    resident: int
    files: int


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil-Sen: the median of the slopes of all pairs."""
    pairs = itertools.combinations(points, 2)
    return statistics.median((b - y) / (a - x) for (x, y), (a, b) in pairs if a != x)


def leaks(readings: Sequence[Reading]) -> list[str]:
    """Processes whose memory grows on and on, by their readings at rest."""
    found = []
    of: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for each in readings:
        of[each.name, each.pid].append((each.seconds, each.resident))
    for (name, pid), points in of.items():
        settled = [each for each in points[int(len(points) * WARM_UP) :] if each[0] >= points[0][0] + WARM_UP_SECONDS]
        if len(settled) < LEAST_READINGS:
            continue
        per_second = slope(settled)
        grown = per_second * (settled[-1][0] - settled[0][0])
        if per_second * 3600 > LEAK_BYTES_PER_HOUR and grown > LEAK_BYTES:
            found.append(f"{name} ({pid}) grows by {per_second * 3600 / 1e6:.0f} MB an hour")
    return found


def judged(readings: Sequence[Reading]) -> int:
    """How many processes lived long enough for a verdict."""
    first: dict[tuple[str, int], float] = {}
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for each in readings:
        began = first.setdefault((each.name, each.pid), each.seconds)
        counts[each.name, each.pid] += each.seconds >= began + WARM_UP_SECONDS
    return sum(count >= LEAST_READINGS for count in counts.values())


class Curve(threading.Thread):
    """Takes readings every few seconds. `look` may find none."""

    def __init__(self, look: Callable[[], list[Reading]], every: float):
        super().__init__(name="memory", daemon=True)
        self.points: list[list[Reading]] = []
        self._look = look
        self._every = every
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(self._every):
            with contextlib.suppress(OSError):  # a process has just ended
                self.points.append(self._look())

    def stop(self) -> None:
        self._over.set()
        self.join(self._every)
