"""What is learned of how long a backend keeps idle connections."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.idle_limit import AT_ONCE, DOUBT, LEAST, MEMORY, IdleLimit, alike, lend_until

START = 1000.0


def closed_at(*closings: tuple[float, float]) -> IdleLimit:
    """After closings, each as an idle time and when it was."""
    limit = IdleLimit()
    for idle, now in closings:
        limit.closed(idle, now)
    return limit


def test_nothing_is_known_at_first() -> None:
    assert IdleLimit().limit(START) == inf


@pytest.mark.parametrize(("timeout", "until"), [(0, 0), (0.6, 0.3), (1, 0.5), (2, 1.5), (5, 4), (75, 60)])
def test_the_margin(timeout: float, until: float) -> None:
    assert lend_until(timeout) == pytest.approx(until)


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [(2.0, 2.0, True), (2.0, 3.0, True), (2.0, 3.1, False), (60.0, 75.0, True), (60.0, 75.1, False)],
)
def test_a_timer_is_as_exact_as_servers_make_it(one: float, other: float, verdict: bool) -> None:
    assert alike(one, other) is alike(other, one) is verdict


# Promises.


def test_a_promise_is_believed() -> None:
    limit = IdleLimit()
    limit.promised(5.0, START)
    assert limit.limit(START) == 4.0


def test_a_promise_of_nothing_ends_pooling() -> None:
    limit = IdleLimit()
    limit.promised(0.0, START)
    assert limit.limit(START) == 0.0


def test_the_shortest_promise_counts() -> None:
    """A backend may be several servers behind another balancer."""
    limit = IdleLimit()
    for timeout in (60.0, 5.0, 75.0):
        limit.promised(timeout, START)
    assert limit.limit(START) == 4.0


def test_a_promise_that_is_made_no_more_is_forgotten() -> None:
    limit = IdleLimit()
    limit.promised(5.0, START)
    limit.promised(60.0, START + MEMORY)
    assert limit.limit(START + MEMORY) == 48.0


def test_a_promise_is_remembered_for_half_the_memory_at_least() -> None:
    for start in (0.0, MEMORY / 2 - 1, MEMORY - 0.1):
        limit = IdleLimit()
        limit.promised(5.0, start)
        assert limit.limit(start + MEMORY / 2) == 4.0
        assert limit.limit(start + MEMORY) == inf


# Closings.


def test_a_first_closing_counts_at_once() -> None:
    assert closed_at((2.0, START)).limit(START) == 1.5


def test_a_first_closing_is_soon_forgotten() -> None:
    limit = closed_at((2.0, START))
    assert limit.limit(START + DOUBT - 1) == 1.5
    assert limit.limit(START + DOUBT) == inf


def test_a_second_one_after_the_like_time_is_remembered() -> None:
    limit = closed_at((2.0, START), (2.1, START + 30))
    assert limit.limit(START + 30 + MEMORY / 2) == 1.5


def test_the_second_may_come_long_after_the_first() -> None:
    limit = closed_at((2.0, START), (2.1, START + MEMORY - 1))
    assert limit.limit(START + MEMORY + DOUBT) == 1.5


def test_it_may_not_come_too_long_after() -> None:
    limit = closed_at((2.0, START), (2.1, START + MEMORY))
    assert limit.limit(START + MEMORY + DOUBT) == inf


def test_the_shortest_that_was_confirmed_counts() -> None:
    limit = closed_at((3.0, START), (2.5, START + 10), (2.0, START + 20), (2.9, START + 30))
    assert limit.limit(START + 30 + DOUBT) == 1.5


def test_what_is_seen_again_and_again_is_not_forgotten() -> None:
    limit = IdleLimit()
    for now in range(0, int(5 * MEMORY), int(MEMORY / 4)):
        limit.closed(2.0, now)
        assert limit.limit(now) == 1.5


def test_a_confirmed_limit_ends_when_it_is_seen_no_more() -> None:
    limit = closed_at((2.0, START), (2.0, START + 30))
    assert limit.limit(START + 30 + MEMORY) == inf


def test_a_shorter_closing_does_not_wait_for_its_confirmation() -> None:
    limit = closed_at((5.0, START), (5.0, START + 30), (2.0, START + 60))
    assert limit.limit(START + 60) == 1.5
    assert limit.limit(START + 60 + DOUBT) == 4.0


def test_unlike_closings_confirm_nothing() -> None:
    limit = closed_at((2.0, START), (9.0, START + 30), (2.0, START + 60), (20.0, START + 90))
    assert limit.limit(START + 90 + DOUBT) == inf


def test_promises_and_closings_both_count() -> None:
    limit = closed_at((5.0, START))
    limit.promised(3.0, START)
    assert limit.limit(START) == 2.4
    limit.closed(2.0, START + 10)
    assert limit.limit(START + 10) == 1.5


def test_closings_at_one_moment_are_a_single_sighting() -> None:
    limit = closed_at((2.1, START), (2.0, START + 0.1), (2.05, START + 0.9))
    assert limit.limit(START + 1) == 1.5
    assert limit.limit(START + 1 + DOUBT) == inf


def test_a_second_later_is_another_moment() -> None:
    limit = closed_at((2.0, START), (2.0, START + AT_ONCE))
    assert limit.limit(START + AT_ONCE + DOUBT) == 1.5


def test_a_steady_flow_of_closings_is_confirmed() -> None:
    """None comes a second after the one before it, yet they are no single moment's."""
    limit = closed_at(*((2.0, START + tenth / 10) for tenth in range(30)))
    assert limit.limit(START + 3 + DOUBT) == 1.5


# What must not ruin pooling.


def test_a_restart_that_closes_all_at_once_teaches_nothing() -> None:
    limit = closed_at((0.7, START), (9.0, START), (31.0, START + 0.1))
    assert limit.limit(START + 1) == inf


def test_a_restart_does_not_confirm_what_came_before() -> None:
    limit = closed_at((0.7, START), (9.0, START), (0.7, START + 10))
    assert limit.limit(START + 10 + DOUBT) == inf


def test_a_restart_takes_nothing_from_what_is_confirmed() -> None:
    limit = closed_at((2.0, START), (2.0, START + 10), (0.6, START + 20), (1.9, START + 20))
    assert limit.limit(START + 20 + DOUBT) == 1.5


def test_a_closing_of_a_busy_moment_is_chance() -> None:
    limit = closed_at(*((LEAST - 0.01, START + second) for second in range(100)))
    assert limit.limit(START + 100) == inf


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30)), max_size=30))
def test_no_closing_ends_pooling(steps: list[tuple[float, float]]) -> None:
    """Connections that rest for a moment alone are lent, whatever was seen."""
    limit, now = IdleLimit(), START
    for idle, passed in steps:
        now += passed
        limit.closed(idle, now)
        assert limit.limit(now) >= LEAST / 2


@given(
    st.floats(1, 75),
    st.lists(st.tuples(st.floats(1.5, 100), st.floats(0, 0.9)), min_size=2, max_size=20),
)
def test_a_servers_timer_is_learned_from_two_closings(timer: float, steps: list[tuple[float, float]]) -> None:
    """One that looks at its timer once a second."""
    limit, now = IdleLimit(), START
    for passed, late in steps:
        now += passed
        limit.closed(timer + late, now)
    assert lend_until(timer) <= limit.limit(now + DOUBT) <= lend_until(timer + 0.9)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 300), st.booleans()), max_size=30))
def test_everything_is_forgotten_in_the_end(steps: list[tuple[float, float, bool]]) -> None:
    limit, now = IdleLimit(), 0.0
    for seconds, passed, promise in steps:
        now += passed
        (limit.promised if promise else limit.closed)(seconds, now)
    assert limit.limit(now + MEMORY + 1) == inf


# What another process has learned.


def test_an_inherited_limit_has_its_margin_already() -> None:
    limit = IdleLimit()
    limit.inherit(4.0, START)
    assert limit.limit(START) == 4.0


def test_an_inherited_limit_is_forgotten_like_any_other() -> None:
    limit = IdleLimit()
    limit.inherit(4.0, START)
    assert limit.limit(START + MEMORY / 2) == 4.0
    assert limit.limit(START + MEMORY + 1) == inf


@pytest.mark.parametrize(("promise", "together"), [(2.0, 1.5), (10.0, 4.0)])
def test_of_what_is_inherited_and_what_is_learned_the_shorter_counts(promise: float, together: float) -> None:
    limit = IdleLimit()
    limit.inherit(4.0, START)
    limit.promised(promise, START)
    assert limit.limit(START) == together


def test_what_is_inherited_does_not_make_a_sighting_the_timer() -> None:
    limit = closed_at((3.0, START))
    limit.inherit(2.5, START)
    assert limit.limit(START + DOUBT) == 2.5
    assert limit.limit(START + MEMORY + 1) == inf


def test_repr_tells_what_is_known() -> None:
    assert repr(IdleLimit()) == "<IdleLimit promised inf, confirmed inf, last seen inf>"
    limit = closed_at((2.0, START), (2.5, START + 10))
    limit.promised(5.0, START + 10)
    assert repr(limit) == "<IdleLimit promised 5, confirmed 2, last seen 2.5>"
