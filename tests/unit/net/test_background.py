"""Greenlets that outlive a defect."""

from __future__ import annotations

import logging

import gevent
import pytest
from gevent.event import Event

from gproxy.net import background
from tests.support.loopback import TIMEOUT

log = logging.getLogger("test")


def test_a_step_that_fails_is_logged_and_the_next_follows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_BREATH", 0)
    steps: list[int] = []
    went_on = Event()

    def step() -> None:
        steps.append(len(steps))
        if len(steps) == 2:
            raise ZeroDivisionError("a defect")
        if len(steps) == 4:
            went_on.set()
            Event().wait()

    runner = gevent.spawn(background.forever, step, log)
    assert went_on.wait(TIMEOUT)
    runner.kill()
    (line,) = caplog.records
    assert (line.name, line.levelno) == ("test", logging.ERROR)
    assert line.exc_info


def test_it_can_be_killed() -> None:
    begun = Event()

    def step() -> None:
        begun.set()
        Event().wait()

    runner = gevent.spawn(background.forever, step, log)
    assert begun.wait(TIMEOUT)
    runner.kill(timeout=TIMEOUT)
    assert runner.dead
