"""Waiting for a drained backend and for a reload, by a clock of the test's."""

from collections.abc import Iterable

import pytest

from gproxy.ctl.client import Unreachable
from gproxy.ctl.waits import Wait
from gproxy.errors import AdminError
from tests.support.states import backend, state


class Told:
    """A client that is told one thing after the other, the last one again and again."""

    timeout = 0.0

    def __init__(self, answers: Iterable):
        self.answers = list(answers)

    def get(self, _path):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    now = 100.0

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.now += seconds


@pytest.fixture
def hands():
    return Clock()


def wait(hands, *answers, seconds=30.0):
    return Wait(Told(answers), seconds, hands, hands.pause)


def draining(active, **more):
    return backend("b1", active=active, administrative="drain", **more)


def until_idle(waiting):
    return waiting.until_idle("app/b1", "/", "drain")


def reload(number, outcome="done", why=None):
    return {"number": number, "outcome": outcome, "why": why, "ago": 0.0}


def test_a_backend_is_idle_when_it_was_so_for_two_seconds(hands):
    """What the API tells is about a second old."""
    assert until_idle(wait(hands, draining(2), draining(0), draining(1), draining(0)))["active"] == 0
    assert hands.now == 100 + 3 * 0.25 + 2


def test_one_that_does_not_become_idle_in_time_stays_drained(hands):
    with pytest.raises(AdminError, match=r"^not within 5 s: app/b1: connections in use: 3, still drain$"):
        until_idle(wait(hands, draining(3), seconds=5.0))
    assert hands.now == 105


def test_somebody_else_makes_it_ready_meanwhile(hands):
    with pytest.raises(AdminError, match="app/b1 is ready now: somebody else has changed it"):
        until_idle(wait(hands, draining(3), backend("b1", active=3)))


def test_the_api_may_be_silent_for_a_while(hands):
    assert until_idle(wait(hands, Unreachable("no gproxy answers: timed out"), draining(0)))
    with pytest.raises(AdminError, match="connections in use: some, still drain; no gproxy answers: timed out"):
        until_idle(wait(hands, Unreachable("no gproxy answers: timed out")))


def test_an_api_that_is_gone_is_not_waited_for(hands):
    gone = Unreachable("no gproxy answers: Connection refused")
    gone.nobody = True
    with pytest.raises(AdminError, match="Connection refused: it has ended, or has its admin API elsewhere now"):
        until_idle(wait(hands, gone))
    assert hands.now == 100


def test_a_reload_is_over_when_one_that_began_later_is(hands):
    """The one that is on its way may have read the file before us."""
    before = state([], reload=reload(4, "running"))
    answers = [before, state([], reload=reload(4)), state([], reload=reload(5, "running")), state([], reload=reload(5))]
    assert wait(hands, *answers).until_reloaded(before)["reload"]["number"] == 5


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (
            state([], reload=reload(1, "failed", "line 3: no")),
            "the reload has failed; generation 1 goes on: line 3: no",
        ),
        (state([], master=4712), "another gproxy, process 4712, answers now"),
        (state([], ending=True), "gproxy is about to stop"),
        (state([], reload=reload(1, "running")), "not within 30 s: the reload is not over"),
    ],
)
def test_a_reload_that_does_not_come_about(hands, after, why):
    with pytest.raises(AdminError, match=why):
        wait(hands, after).until_reloaded(state([]))
