"""SlotQueue: those who wait for a connection slot, served in the order they came.

A slot that comes free is handed over while it is freed, before anybody who arrives later
can ask for it: nobody is overtaken, and nobody starves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from gevent import Timeout
from gevent.event import AsyncResult

from gproxy.errors import QueueTimeout

T = TypeVar("T")


class _Entry(Generic[T]):
    __slots__ = ("attempt", "picky", "slot")

    def __init__(self, attempt: Callable[[], T | None], picky: bool):
        self.attempt = attempt
        self.picky = picky
        self.slot: AsyncResult = AsyncResult()


class SlotQueue(Generic[T]):
    """`attempt` of an entry takes a slot and returns what it got, or None while there is none for it."""

    def __init__(self) -> None:
        self._entries: deque[_Entry[T]] = deque()
        self._serving = False

    def __len__(self) -> int:
        return len(self._entries)

    def wait(
        self, attempt: Callable[[], T | None], give_back: Callable[[T], None], timeout: float, *, picky: bool = False
    ) -> T:
        """Wait for a slot, at most `timeout` seconds (QueueTimeout). A `picky` one would not take any slot.

        `give_back` gets the slot if it arrives while the waiting greenlet is being killed.
        """
        entry = _Entry(attempt, picky)
        self._entries.append(entry)
        try:
            with Timeout(timeout, False):
                entry.slot.wait()
        except BaseException:
            if entry.slot.ready():
                give_back(entry.slot.get())
            raise
        finally:
            if not entry.slot.ready():
                self._entries.remove(entry)
        if not entry.slot.ready():
            raise QueueTimeout(f"no connection slot within {timeout:g} s")
        slot: T = entry.slot.get()
        return slot

    def serve(self) -> None:
        """A slot may have come free: hand out what there is."""
        if not self._entries or self._serving:
            return
        self._serving = True  # an attempt may free a slot itself
        try:
            for entry in tuple(self._entries):
                slot = entry.attempt()
                if slot is not None:
                    self._entries.remove(entry)
                    entry.slot.set(slot)
                elif not entry.picky:
                    break  # what there is suits anybody, so there is nothing
        finally:
            self._serving = False
