"""The master where the machine gives it no more processes: it must not fall, since its workers would with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

import pytest

from gproxy.errors import StartFailed
from gproxy.generation import Generation
from gproxy.shared import Shared
from gproxy.supervisor import Supervisor
from tests.support.configs import make_config
from tests.support.loopback import descriptors

CONFIG = make_config(workers=2)
WHY = "Resource temporarily unavailable"


def served() -> tuple[Supervisor, Generation]:
    """A master whose present configuration serves, as far as it knows."""
    supervisor = Supervisor(CONFIG, lambda: CONFIG)
    supervisor._sockets.open(CONFIG)
    generation = Generation(1, CONFIG, Shared(CONFIG), lambda *_: os._exit(1), until=0.0)
    supervisor._current, supervisor._numbers = generation, 1
    return supervisor, generation


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor, _ = served()
    yield supervisor
    supervisor._kill_all()
    supervisor._sockets.close()
    supervisor._selector.close()


Limit = Callable[[int], None]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """So many forks succeed from now on."""

    def limit(count: int) -> None:
        left, fork = [count], os.fork

        def limited() -> int:
            left[0] -= 1
            if left[0] < 0:
                raise BlockingIOError(11, WHY)
            return fork()

        monkeypatch.setattr("os.fork", limited)

    return limit


@pytest.mark.parametrize(("count", "who"), [(0, "steward"), (2, "worker 1")])
def test_a_reload_without_processes_for_it_changes_nothing(
    supervisor: Supervisor, only: Limit, caplog: pytest.LogCaptureFixture, count: int, who: str
) -> None:
    generation = supervisor._current
    only(count)
    supervisor._reload()
    assert (supervisor._current, supervisor._next) == (generation, None)
    assert len([child for each in supervisor._draining for child in each.children]) == count
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == [
        "the new configuration could not be started, and the one before stays in effect: "
        f"gproxy: {who} could not be started: {WHY}"
    ]
    for child in [child for each in supervisor._draining for child in each.children.values()]:
        _, status = os.waitpid(child.pid, 0)
        supervisor._ended(child.pid, status)
    assert supervisor._draining == []


def test_an_upgrade_without_a_process_for_it_changes_nothing(
    supervisor: Supervisor, only: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    before = descriptors()
    only(0)
    supervisor._begin_upgrade()
    assert descriptors() == before
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == [
        f"the upgrade has failed: no process could be started: {WHY}; this one goes on"
    ]
    supervisor._begin_upgrade()  # it may be tried again
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 2


def test_a_start_without_processes_fails_and_says_so(only: Limit) -> None:
    supervisor = Supervisor(CONFIG)
    supervisor._sockets.open(CONFIG)
    only(0)
    with pytest.raises(StartFailed, match=f"steward could not be started: {WHY}"):
        supervisor._begin(CONFIG)
    supervisor._sockets.close()
    supervisor._selector.close()
