"""What the actors of one phase share: where to connect, until when, and whether anything may fail."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TIMEOUT = 30.0  # seconds: longer than gproxy may let anybody wait, whatever happens
MOST_VIOLATIONS = 20  # of one actor


class CountingSocket(socket.socket):
    """A client's, which counts its bytes."""

    sent = received = 0
    tally: Traffic

    def sendall(self, data: Any, flags: int = 0) -> None:
        super().sendall(data, flags)
        self.tally.sent += len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        if not flags & socket.MSG_PEEK:
            self.tally.received += len(data)
        return data


@dataclass
class Traffic:
    """What one client, or several, did in a phase."""

    connections: int = 0
    sent: int = 0
    received: int = 0
    framing: int = 0  # of `sent`: bytes of chunk lines, which gproxy doesn't count
    good: Counter[str] = field(default_factory=Counter)  # by class of status, or tcp

    def add(self, other: Traffic) -> None:
        self.connections += other.connections
        self.sent += other.sent
        self.received += other.received
        self.framing += other.framing
        self.good += other.good


@dataclass(frozen=True)
class Stage:
    """`rough`: things are made to fail. `name` is the same when a run is repeated."""

    seed: int
    name: str
    rough: bool
    until: float  # monotonic
    pace: float  # seconds from one action of a client to its next
    address: Callable[[str], tuple[str, int]]
    over: threading.Event

    def random(self, actor: str) -> random.Random:
        return random.Random(f"{self.seed} {self.name} {actor}")

    @property
    def left(self) -> float:
        return 0.0 if self.over.is_set() else max(0.0, self.until - time.monotonic())


class Told:
    """What became of a request, as its client knows it."""

    UNKNOWN = "unknown"  # it went away, or got no answer
    GOOD = "good"
    FAILED = "failed"
    INCOMPLETE = "incomplete"  # not all of it was sent


class Actor(threading.Thread):
    """Acts on and on, at its pace. Subclasses say how in `act`, which may raise OSError."""

    def __init__(self, stage: Stage, name: str):
        super().__init__(name=name, daemon=True)
        self.stage = stage
        self.rng = stage.random(name)
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []

    def act(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """At the end."""

    def run(self) -> None:
        try:
            while self.stage.left and len(self.violations) < MOST_VIOLATIONS:
                self.act()
                self.rest()
        except Exception as error:  # noqa: BLE001 - a defect of the chaos, which must not go unseen
            self.violate(f"a defect of the chaos: {error!r}")
        finally:
            self.finish()

    def rest(self) -> None:
        self.stage.over.wait(min(self.stage.left, self.rng.expovariate(1 / self.stage.pace)))

    def violate(self, text: str) -> None:
        self.violations.append(f"{self.name}: {text}")
