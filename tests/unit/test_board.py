"""A worker's eyes on the board: flips, operators' wishes and weights reach its backends."""

from __future__ import annotations

import logging

import gevent
import pytest

from gproxy.board import BoardReader
from gproxy.core.balance import RoundRobin
from gproxy.core.health import Administrative, Operational
from gproxy.shared import Shared
from gproxy.upstream import Exclusion, Upstream
from tests.support.clock import FakeClock
from tests.support.configs import make_config
from tests.support.loopback import TIMEOUT
from tests.support.upstreams import refuse

UPSTREAMS = {"app": {"b1": "127.0.0.1:1", "b2": "127.0.0.1:2"}, "api": {"b1": "127.0.0.1:3"}}
CONFIG = make_config(UPSTREAMS)


class Worker:
    """What of a worker the board concerns."""

    def __init__(self, shared: Shared):
        self.shared = shared
        self.clock = FakeClock()
        self.upstreams = [
            Upstream(each, shared.row(0), lambda _: RoundRobin(), dial=refuse, clock=self.clock)
            for each in CONFIG.upstreams
        ]
        self.board = BoardReader(shared, self.upstreams)

    def out(self) -> dict[str, Exclusion | None]:
        """Who may serve nobody, and why."""
        found = {b.label: b.exclusion(self.clock()) for u in self.upstreams for b in u.backends}
        return {label: why for label, why in found.items() if why is not None}


@pytest.fixture
def shared() -> Shared:
    return Shared(CONFIG)


@pytest.fixture
def worker(shared: Shared) -> Worker:
    worker = Worker(shared)
    worker.board.look()
    return worker


def test_a_flip_reaches_its_backend_alone(shared: Shared, worker: Worker) -> None:
    for state, out in ((Operational.DOWN, {"app/b1": Exclusion.DOWN}), (Operational.UP, {})):
        shared.line("app", "b1").operational = state
        shared.changed()
        worker.board.look()
        assert worker.out() == out


@pytest.mark.parametrize(
    ("state", "why"),
    [(Administrative.DRAIN, Exclusion.DRAIN), (Administrative.MAINT, Exclusion.MAINT)],
)
def test_an_operator_s_wish_reaches_it_and_so_does_its_end(
    shared: Shared, worker: Worker, state: Administrative, why: Exclusion
) -> None:
    for now, out in ((state, {"api/b1": why}), (Administrative.READY, {})):
        shared.line("api", "b1").administrative = now
        shared.changed()
        worker.board.look()
        assert worker.out() == out


def test_a_weight_reaches_it_and_ends(shared: Shared, worker: Worker) -> None:
    for weight, weights in ((5, [1, 5]), (None, [1, 1])):
        shared.line("app", "b2").weight = weight
        shared.changed()
        worker.board.look()
        assert [backend.weight for backend in worker.upstreams[0].backends] == weights


def test_what_is_not_announced_yet_is_not_looked_for(shared: Shared, worker: Worker) -> None:
    """A look costs next to nothing while there is nothing new."""
    shared.line("app", "b1").operational = Operational.DOWN
    worker.board.look()
    assert worker.out() == {}
    shared.changed()
    worker.board.look()
    assert worker.out() == {"app/b1": Exclusion.DOWN}


def test_a_worker_begins_with_what_is_known(shared: Shared) -> None:
    line = shared.line("app", "b1")
    line.operational, line.weight, line.idle_limit = Operational.DOWN, 3, 4.0
    worker = Worker(shared)
    backend = worker.upstreams[0].backends[0]
    assert worker.out() == {"app/b1": Exclusion.DOWN}
    assert backend.weight == 3
    backend.publish(worker.clock())
    assert backend.pool.idle_limit == 4.0


def test_workers_leave_the_news_to_the_steward(
    shared: Shared, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shared.line("api", "b1").operational = Operational.DOWN
    shared.changed()
    worker.board.look()
    assert worker.out() == {"api/b1": Exclusion.DOWN}
    assert caplog.messages == []


def test_it_waits_for_the_first_checks(shared: Shared, worker: Worker) -> None:
    waits = gevent.spawn(worker.board.wait_for_checks, TIMEOUT)
    gevent.idle()
    assert not waits.ready()
    shared.line("app", "b1").operational = Operational.DOWN
    shared.changed()
    shared.checked = True
    waits.get(timeout=TIMEOUT / 2)
    assert worker.out() == {"app/b1": Exclusion.DOWN}


def test_it_waits_no_longer_than_it_is_told_and_looks_then(shared: Shared, worker: Worker) -> None:
    shared.line("app", "b1").operational = Operational.DOWN
    shared.changed()
    with gevent.Timeout(TIMEOUT):
        worker.board.wait_for_checks(0.01)
    assert worker.out() == {"app/b1": Exclusion.DOWN}


def test_repr_tells_the_version(shared: Shared, worker: Worker) -> None:
    shared.changed()
    worker.board.look()
    assert repr(worker.board) == "<BoardReader at version 1>"
