"""Which deadline a tcp session has passed: one pure function.

The sweep hands in what it saw; a change is seen at most one sweep late, so a session is
never ended too early.
"""

from __future__ import annotations

from dataclasses import dataclass

from gproxy.core.settings import Timeouts
from gproxy.core.termination import Ended


@dataclass(frozen=True, slots=True)
class FlowLook:
    """One direction at a sweep: seconds since its sink last took a byte, and whether it waits for the sink."""

    quiet: float
    held: bool
    source_ended: bool


def overdue(timeouts: Timeouts, up: FlowLook, down: FlowLook) -> Ended | None:
    """The termination code of a session past one of its deadlines, None while it may go on.

    `half_close_timeout` bounds the silence after one side's FIN, not the length of a
    download that follows it: cutting that would lose bytes.
    """
    if up.held and up.quiet >= timeouts.stall_timeout:
        return Ended.BACKEND_STALLED
    if down.held and down.quiet >= timeouts.stall_timeout:
        return Ended.CLIENT_TIMEOUT
    quiet = min(up.quiet, down.quiet)
    if up.source_ended is not down.source_ended:
        if up.held or down.held or quiet < timeouts.half_close_timeout:
            return None  # what is held waits for its sink: that is stall_timeout's
        return Ended.BACKEND_UNFINISHED if up.source_ended else Ended.CLIENT_UNFINISHED
    return Ended.CLIENT_TIMEOUT if quiet >= timeouts.connection_idle_timeout else None
