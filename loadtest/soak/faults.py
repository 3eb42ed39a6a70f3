"""Those who break things, each with random numbers of its own, and mend them at the end of the phase."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from http.client import HTTPException

from processes import BenchError

from soak.origins import OriginProcess
from soak.proxy import Proxy
from soak.settings import ACCESS_LOG, LISTENERS, Settings
from soak.stage import Actor, Stage

BETWEEN_ORIGIN_FAULTS = 2.5  # seconds, on the average
BETWEEN_ORDERS = 0.7
BETWEEN_PROCESS_FAULTS = 2.0
ATTEMPTS = 10  # to be heard by a steward
LONGEST_FREEZE = 7.0  # seconds: longer than response_timeout
MOST_KILLS = 3  # of workers in a phase: one that dies again soon comes back later each time


class Breaker(Actor):
    between: float

    def moves(self) -> dict[Callable[[], None], int]:
        raise NotImplementedError

    def act(self) -> None:
        moves = self.moves()
        move = self.rng.choices(list(moves), list(moves.values()))[0]
        self.counts[move.__name__.replace("_", " ")] += 1
        move()

    def rest(self) -> None:
        self.wait(self.rng.expovariate(1 / self.between))

    def wait(self, seconds: float) -> None:
        self.stage.over.wait(min(self.stage.left, seconds))


class OriginBreaker(Breaker):
    """Of one backend."""

    between = BETWEEN_ORIGIN_FAULTS

    def __init__(self, stage: Stage, origin: OriginProcess):
        super().__init__(stage, f"breaker of {origin.name}")
        self._origin = origin

    def moves(self) -> dict[Callable[[], None], int]:
        return {self.origin_killed: 3, self.origin_frozen: 3, self.origin_sick: 2, self.origin_restarted_at_once: 2}

    def run(self) -> None:
        self._origin.say("rough")
        super().run()

    def origin_killed(self) -> None:
        self._origin.kill()
        self.wait(self.rng.uniform(0.1, 4))
        self._origin.start()

    def origin_restarted_at_once(self) -> None:
        self._origin.kill()
        self._origin.start()

    def origin_frozen(self) -> None:
        self._origin.freeze()
        try:
            self.wait(self.rng.choice([0.2, 1, LONGEST_FREEZE]) * self.rng.random())
        finally:
            self._origin.thaw()

    def origin_sick(self) -> None:
        """Its health checks of http say so."""
        self._origin.say("sick")
        self.wait(self.rng.uniform(0.5, 3))
        self._origin.say("well")

    def finish(self) -> None:
        self._origin.start()
        self._origin.say("well")
        self._origin.say("calm")


class Operator(Breaker):
    """By the admin API."""

    between = BETWEEN_ORDERS

    def __init__(self, stage: Stage, proxy: Proxy, origins: list[str]):
        super().__init__(stage, "operator")
        self._proxy = proxy
        self._origins = origins

    def moves(self) -> dict[Callable[[], None], int]:
        return {
            self.drained: 3, self.ready: 5, self.weighted: 3, self.ejected: 2, self.readmitted: 1, self.pool_emptied: 2,
            self.asked_for_decisions: 1,
        }  # fmt: skip

    def _path(self, upstream: str = "", origin: str = "") -> str:
        upstream = upstream or self.rng.choice(list(LISTENERS.values()))
        return f"/v1/upstreams/{upstream}/backends/{origin or self.rng.choice(self._origins)}"

    def _ask(self, method: str, path: str, body: object = None) -> bool:
        """Whether there was an answer."""
        try:
            reply = self._proxy.admin.ask(method, path, body)
        except (OSError, HTTPException):
            self.counts["orders that met the end of a steward"] += 1
            return False
        if reply.status not in (200, 202):
            self.violate(f"{method} {path} {body}: {reply.status} {reply.body.decode()}")
        return True

    def drained(self) -> None:
        self._ask("PUT", self._path(), {"administrative": self.rng.choice(["drain", "maint"])})

    def ready(self) -> None:
        self._ask("PUT", self._path(), {"administrative": "ready"})

    def weighted(self) -> None:
        self._ask("PUT", self._path(), {"weight": self.rng.choice([1, 2, 10, 1000, None])})

    def ejected(self) -> None:
        self._ask("POST", self._path() + "/eject", {"seconds": self.rng.choice([1, 3, 3600])})

    def readmitted(self) -> None:
        self._ask("POST", self._path() + "/readmit", {})

    def pool_emptied(self) -> None:
        self._ask("POST", self._path() + "/empty-pool", {})

    def asked_for_decisions(self) -> None:
        self._ask("GET", "/v1/decisions?last=100")

    def finish(self) -> None:
        """As configured."""
        for upstream in LISTENERS.values():
            for origin in self._origins:
                path = self._path(upstream, origin)
                self._insist("PUT", path, {"administrative": "ready", "weight": None})
                self._insist("POST", path + "/readmit", {})

    def _insist(self, method: str, path: str, body: object) -> None:
        if not any(self._ask(method, path, body) for _ in range(ATTEMPTS)):
            self.violate(f"{method} {path} {body} was not answered, though tried {ATTEMPTS} times")


class ProcessBreaker(Breaker):
    """Of gproxy itself; `choose` makes another configuration."""

    between = BETWEEN_PROCESS_FAULTS

    def __init__(self, stage: Stage, proxy: Proxy, choose: Callable[[], Settings]):
        super().__init__(stage, "breaker of gproxy")
        self._proxy = proxy
        self._choose = choose
        self.kills = 0

    def moves(self) -> dict[Callable[[], None], int]:
        return {
            self.worker_killed: 3, self.steward_killed: 1, self.worker_frozen: 2, self.reloaded: 4, self.upgraded: 2,
            self.reloaded_twice: 1, self.reloaded_with_nonsense: 1, self.log_moved: 2,
        }  # fmt: skip

    def _child(self, start: str) -> int | None:
        """None while there is none."""
        with contextlib.suppress(OSError, ValueError):
            names = sorted(name for name in self._proxy.children() if name.startswith(start))
            return self._proxy.children()[self.rng.choice(names)] if names else None
        return None

    def worker_killed(self) -> None:
        pid = self._child("worker")
        if pid is not None and self.kills < MOST_KILLS:
            self.kills += 1
            _signal(pid, signal.SIGKILL)

    def steward_killed(self) -> None:
        pid = self._child("steward")
        if pid is not None:
            _signal(pid, signal.SIGKILL)

    def worker_frozen(self) -> None:
        """For less than `worker_timeout`."""
        pid = self._child("worker")
        if pid is not None:
            _signal(pid, signal.SIGSTOP)
            self.wait(self.rng.uniform(0.05, 1))
            _signal(pid, signal.SIGCONT)

    def reloaded(self) -> None:
        self._proxy.write(self._choose())
        self._proxy.signal_master(signal.SIGHUP)

    def reloaded_twice(self) -> None:
        self.reloaded()
        self.wait(self.rng.choice([0, 0.05, 0.3]))
        self.reloaded()

    def reloaded_with_nonsense(self) -> None:
        before = self._proxy.settings
        self._proxy.write_nonsense()
        self._proxy.signal_master(signal.SIGHUP)
        self.wait(0.5)
        self._proxy.write(before)

    def upgraded(self) -> None:
        self._proxy.write(self._choose())
        try:
            if not self._proxy.upgrade():
                self.counts["upgrades that did not happen"] += 1
        except (BenchError, OSError, ValueError) as error:
            self.violate(f"an upgrade: {error!r}")

    def log_moved(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._proxy.directory / ACCESS_LOG, self._proxy.directory / f"{ACCESS_LOG}.old")
        self._proxy.signal_master(signal.SIGUSR1)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
