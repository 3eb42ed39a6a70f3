"""Questions: what the steward asks of all workers, by way of the master, and is told in time or not at all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from gevent import Timeout
from gevent.event import Event

DEADLINE = 1.0  # seconds


class _Open:
    """A question that waits for answers."""

    def __init__(self, awaited: int):
        self.awaited = awaited
        self.answers: list[Any] = []
        self.complete = Event()


class Questions:
    """`say` tells the master."""

    def __init__(self, say: Callable[..., bool]):
        self._say = say
        self._ids = count(1)
        self._open: dict[int, _Open] = {}

    def ask(self, awaited: int, **question: Any) -> list[Any]:
        """What so many workers say; fewer answers where some don't within DEADLINE seconds."""
        number = next(self._ids)
        waiting = self._open[number] = _Open(awaited)
        try:
            self._say(said="ask", id=number, question=question)
            with Timeout(DEADLINE, False):
                waiting.complete.wait()
        finally:
            del self._open[number]
        return waiting.answers

    def answered(self, number: int, answer: Any) -> None:
        """One that comes too late is dropped."""
        waiting = self._open.get(number)
        if waiting is not None:
            waiting.answers.append(answer)
            if len(waiting.answers) >= waiting.awaited:
                waiting.complete.set()

    def __repr__(self) -> str:
        return f"<Questions {len(self._open)} open>"
