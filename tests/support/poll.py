"""Waiting in tests: look again until it holds, never sleep and hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

STEP = 0.01  # seconds between two looks; the hub runs meanwhile

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 5.0, what: str = "") -> T:
    """What `predicate` returns once that is true; AssertionError, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or predicate}")
        gevent.sleep(STEP)
    return result


def let_the_hub_run(turns: int = 10) -> None:
    """So often that what was ready for it is done; for what must not happen. sleep(0) may not look at sockets."""
    hub = gevent.get_hub()
    for _ in range(turns):
        hub.wait(hub.loop.timer(0))
