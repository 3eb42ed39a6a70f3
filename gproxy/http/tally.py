"""PlainTally: plain exchanges, added to the counters and to the stories many at a time: in a row they cost half."""

from __future__ import annotations

from gproxy.core.histogram import Histogram
from gproxy.metrics import ListenerStats, MetricsCollector, Slot
from gproxy.stories import Plain, Stories

AT_ONCE = 200  # exchanges at the most that the counters lack


class PlainTally:
    """Of one listener. Whoever appends to `waiting` looks at its length; whoever reads the counters or the stories
    calls `catch_up` of the MetricsCollector first.
    """

    def __init__(self, metrics: MetricsCollector, stats: ListenerStats, stories: Stories):
        self.waiting: list[Plain] = []
        self._stories = stories
        self._view, self._base = metrics.view, stats.base
        self._response_time: Histogram = metrics.response_time
        metrics.lagging.append(self.add_up)

    def add_up(self) -> None:
        """Bring the counters up to date."""
        waiting, view, base = self.waiting, self._view, self._base
        record_time = self._response_time.record
        bytes_in = bytes_out = errors = 0
        for size, sent, status, answered, _, _, _, _, choice in waiting:
            bytes_in += size
            bytes_out += sent
            view[base + status // 100] += 1
            record_time(answered - choice[0])
            if status >= 500:
                errors += 1
        view[Slot.BYTES_IN] += bytes_in
        view[Slot.BYTES_OUT] += bytes_out
        view[base + ListenerStats.REQUESTS] += len(waiting)
        self._stories.keep_plain(waiting, errors)
        waiting.clear()

    def __repr__(self) -> str:
        return f"<PlainTally {len(self.waiting)} exchanges to add>"
