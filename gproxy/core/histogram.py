"""Durations counted in logarithmic buckets, in slots that workers share.

Each octave (a power of two) is cut into 8 buckets of equal width, from LOWEST, 7.6 us, to
HIGHEST, 4096 s: below 10 us to above an hour. What lies outside is counted in the first
or the last bucket.

- A percentile is off by at most RELATIVE_ERROR (1/17, 5.9 %) of the true value, for durations
  inside the range: a bucket of the lower edge L ends at L + L/8 at the most, and 2LU/(L+U)
  is as near as can be, in proportion, to both of its edges L and U.
- Counts only grow, and lists of them add and subtract slot by slot: the sum over workers
  and the difference to an earlier snapshot are lists of counts again.
- The same counts give percentiles that grow with q, so that p50 <= p95 <= p99 <= max.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

_SUBBUCKETS = 8  # per octave
_LOWEST_OCTAVE = -16  # as frexp counts them: it holds 2**-17 to below 2**-16 seconds
_HIGHEST_OCTAVE = 12
# frexp's mantissa is from 0.5 to below 1: times 16, it is 8 to 15.
_SCALE = 2 * _SUBBUCKETS

LOWEST = 2.0 ** (_LOWEST_OCTAVE - 1)  # seconds
HIGHEST = 2.0**_HIGHEST_OCTAVE
SLOTS = _SUBBUCKETS * (_HIGHEST_OCTAVE - _LOWEST_OCTAVE + 1)
RELATIVE_ERROR = 1 / 17

_LAST = SLOTS - 1
_TICKS = _SUBBUCKETS / LOWEST  # per second


def _slot(seconds: float) -> int:
    if not LOWEST <= seconds < HIGHEST:
        return _LAST if seconds >= HIGHEST else 0
    ticks = int(seconds * _TICKS)  # 8 to 15 in the lowest octave: its bits tell the octave
    octave = ticks.bit_length() - 4
    return _SUBBUCKETS * octave + (ticks >> octave) - _SUBBUCKETS


_SHORT_SECONDS = 0.0625  # seconds
# Slots by ticks. What lies below the lowest octave is in slot 0; an octave's slots are twice as wide as the last one's.
_SHORT = bytes(_SUBBUCKETS) + b"".join(
    bytes((_SUBBUCKETS * octave + sub,)) * 2**octave
    for octave in range(int(_SHORT_SECONDS * _TICKS / _SUBBUCKETS).bit_length() - 1)
    for sub in range(_SUBBUCKETS)
)


class Histogram:
    """SLOTS slots of `view`, from `base` on; the view holds 64-bit integers (format 'q')."""

    __slots__ = ("_base", "_view")

    def __init__(self, view: memoryview[int], base: int = 0) -> None:
        self._view = view
        self._base = base

    @property
    def base(self) -> int:
        """The first of its slots."""
        return self._base

    def record(self, seconds: float) -> None:
        # Hot, once or twice per request: most durations are short, and their slots stand in a table.
        slot = _SHORT[int(seconds * _TICKS)] if 0.0 <= seconds < _SHORT_SECONDS else _slot(seconds)
        self._view[self._base + slot] += 1

    def counts(self) -> list[int]:
        """A snapshot."""
        return self._view[self._base : self._base + SLOTS].tolist()

    @property
    def max(self) -> float:
        """The longest duration ever recorded, in seconds, to RELATIVE_ERROR; 0 when there is none."""
        return percentile(self.counts(), 1.0)

    def __repr__(self) -> str:
        counts = self.counts()
        p50, p99, top = (f"{percentile(counts, q):.3g}" for q in (0.5, 0.99, 1.0))
        return f"<Histogram {sum(counts)} durations, p50 {p50} s, p99 {p99} s, max {top} s>"


def percentile(counts: Sequence[int], q: float) -> float:
    """The duration in seconds that the share `q` (above 0, to 1) doesn't exceed; 0 when there are none.

    By nearest rank; `q` of 1 is the maximum.
    """
    rank = max(1, math.ceil(q * sum(counts) - 1e-9))  # 0.07 * 100 is a bit above 7
    for slot, count in enumerate(counts):
        rank -= count
        if rank <= 0:
            return _middle(slot)
    return 0.0


def cumulative(counts: Sequence[int], powers: Sequence[int]) -> list[tuple[float, int]]:
    """For each power of two in seconds, -17 to 12 and ascending: how many durations were below it. Exact."""
    totals = [0, *accumulate(counts)]
    return [(2.0**power, totals[_SUBBUCKETS * (power - _LOWEST_OCTAVE + 1)]) for power in powers]


def approximate_sum(counts: Sequence[int]) -> float:
    """Of all durations in seconds, to RELATIVE_ERROR: each counts as the middle of its bucket. It only grows."""
    return sum(seconds * count for seconds, count in middles(counts))


def middles(counts: Sequence[int]) -> list[tuple[float, int]]:
    """The middle of each bucket that is not empty, in seconds and to RELATIVE_ERROR, and its count."""
    return [(_middle(slot), count) for slot, count in enumerate(counts) if count]


def since(counts: Sequence[int], before: Sequence[int]) -> list[int]:
    """What was recorded after the earlier snapshot."""
    return [now - then for now, then in zip(counts, before, strict=True)]


def _middle(slot: int) -> float:
    """The value whose relative distance from both edges of a bucket is the same."""
    octave, sub = divmod(slot, _SUBBUCKETS)
    width = math.ldexp(1 / _SCALE, octave + _LOWEST_OCTAVE)
    lower = (_SUBBUCKETS + sub) * width
    return 2 * lower * (lower + width) / (2 * lower + width)
