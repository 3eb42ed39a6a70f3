"""A run: cycles of a rough phase, in which things fail, and a calm one, in which nothing may; at rest after each.

    rough ─▶ mended, at rest: ledger, state, holdings ─▶ calm ─▶ at rest: ledger, counters, holdings, log

A part of the cycles, an era's first ones, breaks gproxy's processes as well. In the others processes live on, so that
a leak has the time to show.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from typing import Any

from processes import BenchError

from soak import checks, settings
from soak.clients import Client
from soak.faults import Operator, OriginBreaker, ProcessBreaker
from soak.holdings import Baseline, look, readings
from soak.http_clients import HttpClient
from soak.journal import Entries, JournalReader
from soak.memory import Reading, leaks
from soak.origins import OriginProcess
from soak.proxy import CHANGE_SECONDS, Proxy
from soak.settings import CALM_CLIENTS, HTTP, LISTENERS, Place, Settings
from soak.stage import Actor, Stage, Traffic
from soak.tcp_clients import TcpClient

ROUGH_CLIENTS = {"web": 7, "plain": 7, "raw": 4, "shared": 4}
ROUGH_SECONDS = 14.0
CALM_SECONDS = 3.0
REST_SECONDS = 60.0  # for everything to come to rest
JOIN_SECONDS = 90.0
LOOK_SECONDS = 0.2
ERA_SECONDS = 1800.0  # so long that processes live well beyond memory.WARM_UP_SECONDS in its calmer part
MOST_TRIES = 2 * 3  # on each backend a reused connection and a fresh one


@dataclass
class Report:
    """What a run was, and what it found."""

    seed: int
    minutes: float
    rate: float
    processes: float  # the share of the time in which those of gproxy are broken
    cycles: int = 0
    seconds: float = 0.0
    actions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)  # how often each invariant was
    violations: list[str] = field(default_factory=list)
    curve: list[list[Reading]] = field(default_factory=list)
    judged: int = 0  # processes that lived long enough for a verdict on their memory

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        plain = {name: dict(sorted(value.items())) for name, value in vars(self).items() if isinstance(value, Counter)}
        return vars(self) | plain | {"curve": [[asdict(each) for each in point] for point in self.curve]}

    def check(self, invariant: str, wrong: Sequence[str]) -> None:
        self.checked[invariant] += 1
        self.violations += [f"cycle {self.cycles}, {invariant}: {each}" for each in checks.shortened(list(wrong))]


@dataclass
class Scene:
    """What runs, and who watches it."""

    place: Place
    proxy: Proxy
    journal: JournalReader
    report: Report
    rng: random.Random
    began: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)
    at_rest: list[Reading] = field(default_factory=list)
    totals: checks.Totals = field(default_factory=checks.Totals)
    baseline: Baseline = field(default_factory=Baseline)

    @property
    def origins(self) -> Sequence[OriginProcess]:
        return self.place.origins

    def choose(self) -> Settings:
        self.report.faults["configurations"] += 1
        return settings.choose(self.rng, self.place)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)


class Cycle:
    """One rough phase and one calm one."""

    def __init__(self, scene: Scene, *, processes: bool):
        """`processes`: whether gproxy's are broken, too."""
        self._scene = scene
        self._report = scene.report
        self._processes = processes

    def run(self) -> None:
        report = self._report
        report.cycles += 1
        try:
            self._rough_and_calm()
        except BenchError as error:
            report.check("progress", [str(error)])

    def _rough_and_calm(self) -> None:
        scene, report = self._scene, self._report
        clients = self._phase("rough", ROUGH_SECONDS, ROUGH_CLIENTS, self._breakers)
        if self._processes:
            self._reload()
        self._come_to_rest()
        self._check_book(clients)
        before = scene.proxy.metrics()
        clients = self._phase("calm", CALM_SECONDS, dict.fromkeys(LISTENERS, CALM_CLIENTS), lambda _stage: [])
        self._come_to_rest()
        entries = self._check_book(clients)
        self._check_calm(clients, entries, checks.Metrics(before, scene.proxy.metrics()))
        report.check("log", checks.log(scene.proxy.news()))
        scene.at_rest += readings(scene.proxy, scene.began)
        report.check("memory", leaks(scene.at_rest))

    # Phases.

    def _phase(
        self, kind: str, seconds: float, numbers: dict[str, int], others: Callable[[Stage], list[Actor]]
    ) -> list[Client]:
        scene = self._scene
        pace = sum(numbers.values()) / self._report.rate
        name = f"{self._report.cycles}{kind[0]}"
        until = time.monotonic() + seconds
        stage = Stage(self._report.seed, name, kind == "rough", until, pace, scene.proxy.address, scene.over)
        clients = _clients(stage, numbers)
        actors = [*others(stage), *clients]
        for actor in actors:
            actor.start()
        deadline = until + JOIN_SECONDS
        for actor in actors:
            actor.join(max(0.0, deadline - time.monotonic()))
        self._report.check("clients", [f"{actor.name} hangs" for actor in actors if actor.is_alive()])
        self._report.check("clients", [each for actor in actors for each in actor.violations])
        for actor in actors:
            (self._report.actions if isinstance(actor, Client) else self._report.faults).update(actor.counts)
        return clients

    def _breakers(self, stage: Stage) -> list[Actor]:
        scene = self._scene
        breakers: list[Actor] = [OriginBreaker(stage, origin) for origin in scene.origins]
        breakers.append(Operator(stage, scene.proxy, [origin.name for origin in scene.origins]))
        if self._processes:
            breakers.append(ProcessBreaker(stage, scene.proxy, scene.choose))
        return breakers

    def _reload(self) -> None:
        """So that it is known which configuration is in effect."""
        proxy = self._scene.proxy
        proxy.reload(self._scene.choose(), CHANGE_SECONDS)

    def _come_to_rest(self) -> None:
        """All is well again, nobody is connected, and nothing is held."""
        proxy, baseline = self._scene.proxy, self._scene.baseline
        self._report.check("at rest", self._until_none(lambda: _busy(proxy)))

        def grown() -> list[str]:
            now = look(proxy)
            return ["it does not answer"] if now is None else baseline.grown(now, proxy.settings.connected_ahead)

        self._report.check("holdings", self._until_none(grown))

    def _until_none(self, wrong: Callable[[], list[str]]) -> list[str]:
        """What is still wrong when the time is up."""
        deadline = time.monotonic() + REST_SECONDS
        while (found := wrong()) and time.monotonic() < deadline:
            if self._scene.over.wait(LOOK_SECONDS):
                break
        return found

    # What is checked.

    def _check_book(self, clients: Sequence[Client]) -> Entries:
        book = {mark: entry for client in clients for mark, entry in client.book.items()}
        entries = self._scene.journal.read()
        self._report.check("ledger", checks.ledger(book, entries, MOST_TRIES))
        scene = self._scene
        scene.totals.add(book, entries, sum(client.traffic.connections for client in clients))
        for method, told in book.values():
            self._report.requests[f"{method.decode()} {told}"] += 1
        return entries

    def _check_calm(self, clients: Sequence[Client], entries: Entries, grown: checks.Metrics) -> None:
        book = {mark: entry for client in clients for mark, entry in client.book.items()}
        self._report.check("exactly once while calm", checks.calm_ledger(book, entries))
        traffic = {name: Traffic() for name in LISTENERS}
        for client in clients:
            traffic[client.listener].add(client.traffic)
        wrong = checks.calm_counters(grown, traffic, entries, self._scene.proxy.settings)
        self._report.check("counters", wrong)


def _clients(stage: Stage, numbers: dict[str, int]) -> list[Client]:
    clients: list[Client] = []
    for listener, count in numbers.items():
        for number in range(count):
            if LISTENERS[listener] in HTTP:
                clients.append(HttpClient(stage, listener, number, constant=listener == "plain"))
            else:
                clients.append(TcpClient(stage, listener, number, shared=listener == "shared"))
    return clients


def _busy(proxy: Proxy) -> list[str]:
    """What is not at rest."""
    try:
        children = proxy.children()
        expected = {"steward", *(f"worker{slot}" for slot in range(proxy.settings.workers))}
        if children.keys() != expected:
            return [f"processes: {sorted(children)}"]
        others = set(proxy.processes()) - {proxy.master, *children.values()}
        if others:
            return [f"{len(others)} processes of the past"]
        return checks.at_rest(proxy.state(), proxy.settings)
    except (OSError, ValueError, AssertionError, HTTPException) as error:
        return [f"asked, it said {error!r}"]


def run(scene: Scene) -> None:
    """Cycles, as long as time is left and nothing is wrong."""
    end = scene.began + scene.report.minutes * 60
    era = min(ERA_SECONDS, scene.report.minutes * 60)
    while (now := time.monotonic()) < end and not scene.report.violations and not scene.over.is_set():
        processes = (now - scene.began) % era < era * scene.report.processes
        Cycle(scene, processes=processes).run()
        told = scene.report
        scene.say(
            f"cycle {told.cycles}{', processes too' if processes else ''}: {sum(told.requests.values())} requests, "
            f"{told.actions['answered']} answered, {sum(told.faults.values())} faults, "
            f"{len(told.violations) or 'nothing'} wrong"
        )
    scene.totals.worker_kills = scene.report.faults["worker killed"]
    scene.totals.steward_kills = scene.report.faults["steward killed"]
    scene.report.seconds = time.monotonic() - scene.began
