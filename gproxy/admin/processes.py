"""What a process holds just now, as a document. In the process itself: others may not be allowed to look.

All of it is found out when somebody asks, and nothing is kept count of meanwhile. To walk the objects of a worker with
thousands of sessions takes it some ten milliseconds: this is for people and for tests, not for a scrape each second.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from gevent import get_hub
from greenlet import greenlet  # type: ignore[import-untyped]

from gproxy.admin.schema import COUNT, STRING, obj, or_null

PROCESS = obj(
    {
        "process": STRING,
        "pid": COUNT,
        "sessions": COUNT,
        "resident_bytes": or_null(COUNT),
        "open_files": or_null(COUNT),
        "greenlets": COUNT,
        "watchers": COUNT,
    }
)


def process_document(name: str, sessions: int, resting: int = 0) -> dict[str, Any]:
    """`resting`: greenlets that wait for work and hold nothing, which don't count.

    `greenlets` are those that began since the process is ready; `watchers` those of the event loop that are active.
    """
    return {
        "process": name,
        "pid": os.getpid(),
        "sessions": sessions,
        "resident_bytes": _resident_bytes(),
        "open_files": _open_files(),
        "greenlets": max(0, _greenlets() - resting),
        "watchers": get_hub().loop.activecnt,
    }


def _resident_bytes() -> int | None:
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _open_files() -> int | None:
    """None where none is left to look with."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd")) - 1  # the one that looks
    return None


def _greenlets() -> int:
    """type(), since isinstance() asks proxies of other libraries what they stand for."""
    return sum(issubclass(type(each), greenlet) and not each.dead for each in gc.get_objects())
