"""What gproxy's processes hold at rest: no more than when they were at rest for the first time, but for free pipes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from soak.memory import Reading
from soak.proxy import Proxy, kinds_of_descriptors, name_of, resident_bytes
from soak.settings import LISTENERS

MOST_FREE_PIPES = 16  # that a process keeps for the next bulk transfers, two descriptors each
MORE_GREENLETS = 8  # some begin their work late
STEWARDS_ROOM = 16  # health checks and our own questions are always under way


@dataclass(frozen=True)
class Held:
    """By one process."""

    descriptors: Counter[str]  # pipes apart
    pipes: int
    watchers: int = 0
    greenlets: int = 0

    def beyond(self, first: Held, room: int) -> Iterator[str]:
        for kind, count in self.descriptors.items():
            if count > first.descriptors[kind] + room:
                yield f"{count} descriptors of kind {kind}, not {first.descriptors[kind]}"
        if self.pipes > first.pipes + 2 * MOST_FREE_PIPES:
            yield f"{self.pipes} descriptors of pipes, not {first.pipes}"
        if self.watchers > first.watchers + room:
            yield f"{self.watchers} watchers, not {first.watchers}"
        if self.greenlets > first.greenlets + MORE_GREENLETS:
            yield f"{self.greenlets} greenlets, not {first.greenlets}"


def look(proxy: Proxy) -> dict[str, tuple[int, Held]] | None:
    """By the names of processes, each with its pid; None where one did not answer, or ended meanwhile."""
    told = proxy.holdings()
    if told is None:
        return None
    try:
        found = {each["process"]: (each["pid"], _held(each["pid"], each)) for each in told}
        found["master"] = proxy.master, _master(proxy, len(told))
    except OSError:
        return None
    return found


def _master(proxy: Proxy, children: int) -> Held:
    """Without the channels to its children, the files for their stacks, and the sockets of listeners: for as many
    workers as there ever were.
    """
    held = _held(proxy.master, None)
    held.descriptors["file"] -= children
    held.descriptors["socket"] -= children + len(LISTENERS) * proxy.widest
    return held


def _held(pid: int, told: Any) -> Held:
    kinds = kinds_of_descriptors(pid)
    pipes = kinds.pop("pipe", 0)
    if told is None:
        return Held(kinds, pipes)
    return Held(kinds, pipes, told["watchers"], told["greenlets"])


class Baseline:
    """What each process held when it was at rest for the first time."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], Held] = {}

    def grown(self, now: dict[str, tuple[int, Held]], room: int) -> list[str]:
        """What is more than it was. A process that is new is believed. `room`: connections that may come and go."""
        wrong = []
        for name, (pid, held) in now.items():
            first = self._first.setdefault((name, pid), held)
            more = STEWARDS_ROOM if name == "steward" else room if name.startswith("worker") else 0
            wrong += [f"{name} ({pid}): {what}" for what in held.beyond(first, more)]
        return wrong


def readings(proxy: Proxy, began: float) -> list[Reading]:
    """The memory of all that there are, the drained and the new."""
    found = []
    seconds = time.monotonic() - began
    for pid in proxy.processes():
        resident, files = resident_bytes(pid), kinds_of_descriptors(pid).total()
        if resident:
            found.append(Reading(seconds, name_of(pid), pid, resident, files))
    return found
