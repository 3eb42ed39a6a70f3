"""Greenlets: who runs what, who rests, and how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub, getcurrent
from gevent.event import Event

from gproxy.net import greenlets as module
from gproxy.net.greenlets import Greenlets
from tests.support.poll import eventually


@pytest.fixture
def greenlets() -> Iterator[Greenlets]:
    made = Greenlets(get_hub())
    yield made
    made.close()


def in_hub(act: Callable[..., None], *args: Any) -> None:
    """Call it there, and come back once it has returned."""
    done = Event()

    def both() -> None:
        act(*args)
        done.set()

    get_hub().loop.run_callback(both)
    assert done.wait(5.0)


class Work:
    """Notes who ran it; waits where it is told to."""

    def __init__(self) -> None:
        self.ran_in: list[Any] = []
        self.go_on = Event()

    def at_once(self, *args: Any) -> None:
        self.ran_in.append((getcurrent(), *args))

    def waits(self) -> None:
        self.ran_in.append((getcurrent(),))
        self.go_on.wait()


@pytest.fixture
def work() -> Work:
    return Work()


def test_it_runs_at_once_with_its_arguments(greenlets: Greenlets, work: Work) -> None:
    seen: list[int] = []

    def act() -> None:
        greenlets.run(work.at_once, 1, "two")
        seen.append(len(work.ran_in))

    in_hub(act)
    assert seen == [1]
    assert work.ran_in[0][1:] == (1, "two")


def test_whoever_called_goes_on_at_the_first_wait(greenlets: Greenlets, work: Work) -> None:
    in_hub(greenlets.run, work.waits)
    assert len(work.ran_in) == 1
    assert repr(greenlets) == "<Greenlets 0 rest>"
    work.go_on.set()
    eventually(lambda: repr(greenlets) == "<Greenlets 1 rest>")


def test_one_that_rests_is_taken_for_the_next(greenlets: Greenlets, work: Work) -> None:
    for _ in range(3):
        in_hub(greenlets.run, work.at_once)
    assert len({id(who) for (who,) in work.ran_in}) == 1


def test_two_at_the_same_time_are_two(greenlets: Greenlets, work: Work) -> None:
    in_hub(greenlets.run, work.waits)
    in_hub(greenlets.run, work.waits)
    (one,), (other,) = work.ran_in
    assert one is not other
    work.go_on.set()
    eventually(lambda: repr(greenlets) == "<Greenlets 2 rest>")


@pytest.mark.parametrize("how", ["run", "later"])
def test_a_dead_one_is_not_taken(greenlets: Greenlets, work: Work, how: str) -> None:
    in_hub(greenlets.run, work.at_once)
    ((dead,),) = work.ran_in
    in_hub(dead.throw)
    assert dead.dead
    in_hub(getattr(greenlets, how), work.at_once)
    eventually(lambda: len(work.ran_in) == 2)
    assert work.ran_in[1][0] is not dead


def test_later_is_not_at_once(greenlets: Greenlets, work: Work) -> None:
    seen: list[int] = []

    def act() -> None:
        greenlets.later(work.at_once, 1)
        seen.append(len(work.ran_in))

    in_hub(act)
    eventually(lambda: work.ran_in)
    assert seen == [0]
    assert work.ran_in[0][1:] == (1,)


def test_later_and_at_once_are_never_the_same_greenlet(greenlets: Greenlets, work: Work) -> None:
    """One that was promised is not at rest any more."""
    in_hub(greenlets.run, work.at_once)

    def both() -> None:
        greenlets.later(work.at_once, "later")
        greenlets.run(work.at_once, "at once")

    in_hub(both)
    eventually(lambda: len(work.ran_in) == 3)
    _, (one, what), (other, which) = work.ran_in
    assert (what, which) == ("at once", "later")
    assert one is not other


def test_no_more_rest_than_the_bound(greenlets: Greenlets, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_RESTING", 2)
    for _ in range(4):
        in_hub(greenlets.run, work.waits)
    work.go_on.set()
    eventually(lambda: sum(who.dead for (who,) in work.ran_in) == 2)
    assert repr(greenlets) == "<Greenlets 2 rest>"


def test_after_the_close_nobody_rests(greenlets: Greenlets, work: Work) -> None:
    in_hub(greenlets.run, work.waits)
    greenlets.close()
    work.go_on.set()
    ((who,),) = work.ran_in
    eventually(lambda: who.dead)
    assert repr(greenlets) == "<Greenlets 0 rest>"


def test_one_that_rests_can_be_switched_to_from_any_greenlet_s_callback(greenlets: Greenlets, work: Work) -> None:
    """What runs in it may itself have something run in another one, through the hub."""

    def nested() -> None:
        get_hub().loop.run_callback(greenlets.run, work.at_once)
        gevent.sleep(0)
        work.at_once()

    in_hub(greenlets.run, nested)
    eventually(lambda: len(work.ran_in) == 2)
    (one,), (other,) = work.ran_in
    assert one is not other
