"""Generation: the processes of one configuration, as the master sees them.

starting ─▶ serving ─▶ draining ─▶ over
    └─▶ failed, and the generation before goes on
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from gproxy.channel import Channel
from gproxy.core.settings import Config
from gproxy.shared import Shared
from gproxy.watchdog import make_stack_file

STEWARD = -1  # its slot

_LASTED = 10.0  # seconds that a process must have lived for its successor to start at once
_FIRST_BACK_OFF, _LAST_BACK_OFF = 0.5, 30.0  # seconds

InChild = Callable[["Generation", int, Channel, int], NoReturn]


@dataclass(slots=True)
class Child:
    """One process. `slot` is a worker's, or STEWARD."""

    pid: int
    slot: int
    channel: Channel
    stack: int  # the memory file in which it notes where it hangs
    born: float  # monotonic seconds
    ready: bool = False
    why: str = ""  # it could not start, as it said
    asked_at: float = 0.0  # when it was asked what it is at
    killed: bool = False  # by us

    @property
    def name(self) -> str:
        return "steward" if self.slot == STEWARD else f"worker {self.slot}"


@dataclass(slots=True)
class Vacancy:
    """When the next process of a slot is due, and how many in a row did not last."""

    due: float = 0.0
    failures: int = 0


@dataclass(eq=False)
class Generation:
    number: int
    config: Config
    shared: Shared
    in_child: InChild
    until: float  # when it must be ready, or be over; monotonic seconds
    children: dict[int, Child] = field(default_factory=dict)  # by slot
    vacancies: dict[int, Vacancy] = field(default_factory=dict)

    @property
    def slots(self) -> Iterator[int]:
        """The steward's first: workers wait for its checks."""
        yield from range(STEWARD, self.config.workers)

    @property
    def ready(self) -> bool:
        return all(slot in self.children and self.children[slot].ready for slot in self.slots)

    @property
    def steward(self) -> Child | None:
        return self.children.get(STEWARD)

    def workers(self) -> list[Child]:
        return [child for slot, child in self.children.items() if slot != STEWARD]

    def start(self) -> None:
        for slot in self.slots:
            self.fork(slot)

    def fork(self, slot: int) -> None:
        """A new process for a slot."""
        ours, theirs = Channel.pair()
        # A signal that comes before the child has its own handlers must wait for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        stack = make_stack_file()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self.in_child(self, slot, theirs, stack)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        theirs.close()
        self.children[slot] = Child(pid, slot, ours, stack, time.monotonic())

    def bury(self, child: Child) -> None:
        """It has ended."""
        child.channel.close()
        os.close(child.stack)
        del self.children[child.slot]
        if child.slot != STEWARD:
            self.shared.forget(child.slot)

    def vacate(self, child: Child, now: float) -> float:
        """Somebody is to take its place; in how many seconds."""
        vacancy = self.vacancies.setdefault(child.slot, Vacancy())
        vacancy.failures = 0 if child.ready and now - child.born >= _LASTED else vacancy.failures + 1
        delay = min(_FIRST_BACK_OFF * 2 ** (vacancy.failures - 2), _LAST_BACK_OFF) if vacancy.failures > 1 else 0.0
        vacancy.due = now + delay
        return delay

    def fill(self, now: float) -> None:
        """Fork for the slots that are due."""
        for slot in self.slots:
            if slot not in self.children and now >= self.vacancies[slot].due:
                self.fork(slot)

    def tell(self, **message: object) -> None:
        """All workers."""
        for child in self.workers():
            child.channel.send(**message)

    def kill(self) -> None:
        for child in self.children.values():
            child.killed = True
            os.kill(child.pid, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Generation {self.number} {len(self.workers())} of {self.config.workers} workers>"
