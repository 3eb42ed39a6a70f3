"""PlainTally: the numbers of plain exchanges, added to the counters many at a time, because in a row they cost half."""

from __future__ import annotations

from gproxy.core.histogram import Histogram
from gproxy.metrics import ListenerStats, MetricsCollector, Slot

AT_ONCE = 200  # exchanges at the most that the counters lack


class PlainTally:
    """Of one listener. `waiting` holds (bytes in, bytes out, status, seconds to the response) of each exchange.

    Whoever appends looks at its length; whoever reads the counters calls `catch_up` of the MetricsCollector first.
    """

    def __init__(self, metrics: MetricsCollector, stats: ListenerStats):
        self.waiting: list[tuple[int, int, int, float]] = []
        self._view, self._base = metrics.view, stats.base
        self._response_time: Histogram = metrics.response_time
        metrics.lagging.append(self.add_up)

    def add_up(self) -> None:
        """Bring the counters up to date."""
        waiting, view, base = self.waiting, self._view, self._base
        record_time = self._response_time.record
        bytes_in = bytes_out = 0
        for size, sent, status, seconds in waiting:
            bytes_in += size
            bytes_out += sent
            view[base + status // 100] += 1
            record_time(seconds)
        view[Slot.BYTES_IN] += bytes_in
        view[Slot.BYTES_OUT] += bytes_out
        view[base + ListenerStats.REQUESTS] += len(waiting)
        waiting.clear()

    def __repr__(self) -> str:
        return f"<PlainTally {len(self.waiting)} exchanges to add>"
