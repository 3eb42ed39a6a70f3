"""Generation: the processes of one configuration, as the master sees them.

starting ─▶ serving ─▶ draining ─▶ over
    └─▶ failed, and the generation before goes on
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from traceback import print_exc
from typing import NoReturn

from gproxy.channel import Channel
from gproxy.core.settings import Config
from gproxy.shared import Shared
from gproxy.sockets import BySlot
from gproxy.watchdog import make_stack_file

STEWARD = -1  # its slot

_LASTED = 10.0  # seconds that a process must have lived for its successor to start at once
_FIRST_BACK_OFF, _LAST_BACK_OFF = 0.5, 30.0  # seconds
_DOUBLINGS = 6  # from the first to the last

log = logging.getLogger("gproxy")


def name_of(slot: int) -> str:
    return "steward" if slot == STEWARD else f"worker {slot}"


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
        return name_of(self.slot)


@dataclass(slots=True)
class Vacancy:
    """When the next process of a slot is due, and how many in a row did not last."""

    due: float = 0.0
    failures: int = 0

    def failed(self, now: float) -> float:
        """One more; in how many seconds the next process is due."""
        self.failures += 1
        doublings = min(self.failures - 2, _DOUBLINGS)
        delay = min(_FIRST_BACK_OFF * 2**doublings, _LAST_BACK_OFF) if doublings >= 0 else 0.0
        self.due = now + delay
        return delay


@dataclass(eq=False)
class Generation:
    number: int
    config: Config
    shared: Shared
    in_child: InChild
    until: float  # when it must be ready, or be over; monotonic seconds
    sockets: list[BySlot] = field(default_factory=list)  # each worker's
    hurried: bool = False  # told to end at once
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

    def start(self) -> str:
        """Fork for all slots; why that did not go on to the end, if it did not."""
        for slot in self.slots:
            try:
                self.fork(slot)
            except OSError as error:
                return f"{name_of(slot)} could not be started: {error.strerror}"
        return ""

    def fork(self, slot: int) -> None:
        """A new process for a slot. OSError where processes, memory or descriptors have run out."""
        stack = make_stack_file()
        try:
            ours, theirs = Channel.pair()
        except OSError:
            os.close(stack)
            raise
        # A signal that comes before the child has its own handlers must wait for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            ours.close()
            theirs.close()
            os.close(stack)
            raise
        if pid == 0:
            try:
                ours.close()
                self.in_child(self, slot, theirs, stack)
            except BaseException:  # noqa: BLE001  # the master's code above us must not run here
                print_exc()
            finally:
                os._exit(1)
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
        if child.ready and now - child.born >= _LASTED:
            vacancy.failures, vacancy.due = 0, now
            return 0.0
        return vacancy.failed(now)

    def fill(self, now: float) -> None:
        """Fork for the slots that are due."""
        for slot in self.slots:
            if slot in self.children or now < self.vacancies[slot].due:
                continue
            try:
                self.fork(slot)
            except OSError as error:  # the others must live on
                delay = self.vacancies[slot].failed(now)
                log.error("%s could not be started: %s; tried again in %g s", name_of(slot), error.strerror, delay)

    def hurry(self, until: float) -> None:
        """End at once, and by force if that is not heard."""
        self.hurried = True
        self.tell(do="stop")
        self.until = min(self.until, until)

    def tell(self, **message: object) -> None:
        """All workers."""
        for child in self.workers():
            child.channel.send(**message)

    def kill(self) -> None:
        for child in self.children.values():
            child.killed = True
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Generation {self.number} {len(self.workers())} of {self.config.workers} workers>"
