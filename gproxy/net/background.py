"""Greenlets that must outlive a defect: without them probes, sweeps or metrics would stop unnoticed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

_BREATH = 1.0  # seconds after a defect, so that it can't spin


def forever(step: Callable[[], object], log: logging.Logger) -> None:
    """Take one step after the other; one that raises is logged with its traceback, and the next follows."""
    while True:
        try:
            step()
        except Exception:
            log.exception("a background task failed, and goes on")
            gevent.sleep(_BREATH)
