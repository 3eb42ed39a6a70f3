"""What operators ask of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from socket import socketpair
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gproxy import orders

DEADLINE = 20


@pytest.fixture
def watchers() -> Iterator[list[Any]]:
    made: list[Any] = []
    yield made
    for each in made:
        each.stop()
        each.close()


def test_a_timer_that_is_due_and_will_be_started_again_counts_as_a_watcher(watchers: list[Any]) -> None:
    loop = gevent.get_hub().loop
    asking, asked = socketpair()
    answers: list[Any] = []
    answered = Event()
    worker: Any = SimpleNamespace(sessions=(), resting=0)

    def say(**told: Any) -> None:
        answers.append((told, loop.activecnt, later.active))
        answered.set()

    def question_comes() -> None:
        channel.stop()
        orders.reply(worker, 1, {"do": "ask", "ask": "process", "id": 7}, say)

    # A question and a timer in the same round of the loop. As those of gevent.Timeout, it runs after the question.
    channel = loop.io(asked.fileno(), 1)
    timer = loop.timer(0, priority=-1)
    later = loop.timer(DEADLINE)
    watchers += [channel, timer, later]
    with asking, asked:
        asking.send(b"?")
        channel.start(question_comes)
        timer.start(later.start, list)
        assert answered.wait(DEADLINE)
    [(told, active, started_again)] = answers
    assert (told["said"], told["id"]) == ("answer", 7)
    [found] = told["answer"]
    assert found["process"] == "worker1"
    assert started_again
    assert found["watchers"] == active
