"""The table that heads core/health.py, row by row, and when the next check is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.health import Administrative, BackendHealth, Operational
from gproxy.core.settings import HealthCheckSettings

RISE, FALL = 2, 3
SETTINGS = HealthCheckSettings(interval=10.0, fast_interval=1.0)
UNKNOWN, UP, DOWN = Operational


def after(results: str) -> BackendHealth:
    """What a history of `+` and `-` leads to."""
    health = BackendHealth()
    for result in results:
        health.observe(result == "+", RISE, FALL)
    return health


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("", UNKNOWN),
        ("+", UP),
        ("-", DOWN),
        ("+--", UP),
        ("+---", DOWN),
        ("+--+--", UP),
        ("-+", DOWN),
        ("-++", UP),
        ("-+-+", DOWN),
        ("+---++", UP),
    ],
)
def test_state(results: str, state: Operational) -> None:
    assert after(results).operational is state


@given(st.text("+-", max_size=40))
def test_observe_is_true_only_on_a_flip(results: str) -> None:
    health = BackendHealth()
    for result in results:
        before = health.operational
        assert health.observe(result == "+", RISE, FALL) is (health.operational is not before)


@given(st.text("+-", min_size=1, max_size=40))
def test_a_state_differs_from_the_last_result_only_while_disputed(results: str) -> None:
    health = after(results)
    assert health.disputed is ((health.operational is UP) is not (results[-1] == "+"))


@given(st.text("+-", max_size=20), st.sampled_from("+-"))
def test_enough_equal_results_always_decide(results: str, then: str) -> None:
    assert after(results + then * max(RISE, FALL)).operational is (UP if then == "+" else DOWN)


def test_a_backend_that_was_never_checked_is_not_disputed() -> None:
    assert not BackendHealth().disputed


def test_results_in_a_row_are_counted() -> None:
    health = after("+--")
    assert (health.successes, health.failures) == (0, 2)
    health.observe(True, RISE, FALL)
    assert (health.successes, health.failures) == (1, 0)


def test_thresholds_may_change_on_the_way() -> None:
    health = after("+--")
    assert health.observe(False, rise=2, fall=2)


@pytest.mark.parametrize("state", Operational)
@pytest.mark.parametrize("results", ["", "+", "-"])
def test_what_another_says_counts_and_is_news_where_it_differs(results: str, state: Operational) -> None:
    health = after(results)
    news = health.operational is not state
    assert health.told(state) is news
    assert health.operational is state
    assert health.told(state) is False


def test_after_news_what_came_before_counts_no_more() -> None:
    health = after("+--")
    health.told(DOWN)
    assert (health.failures, health.disputed) == (0, False)
    health.told(UP)
    assert not health.observe(False, RISE, FALL)
    assert not health.observe(False, RISE, FALL)
    assert health.observe(False, RISE, FALL)


def test_what_is_no_news_leaves_a_streak_alone() -> None:
    health = after("+--")
    health.told(UP)
    assert health.observe(False, RISE, FALL)


def test_what_another_says_leaves_the_other_axis_alone() -> None:
    health = after("+")
    health.administrative = Administrative.DRAIN
    health.told(DOWN)
    assert health.administrative is Administrative.DRAIN


def test_the_axes_do_not_touch_one_another() -> None:
    health = after("+")
    health.administrative = Administrative.MAINT
    assert health.observe(False, rise=1, fall=1)
    assert (health.operational, health.administrative) == (DOWN, Administrative.MAINT)


@pytest.mark.parametrize(
    ("results", "delay"),
    [("", 10.0), ("+", 10.0), ("+-", 1.0), ("+--", 1.0), ("+---", 10.0), ("-", 10.0), ("-+", 1.0), ("-++", 10.0)],
)
def test_a_disputed_state_is_checked_sooner(results: str, delay: float) -> None:
    assert after(results).next_delay(SETTINGS, jitter=0.5) == pytest.approx(delay)


def test_the_fast_interval_is_never_the_slower_one() -> None:
    settings = HealthCheckSettings(interval=0.5, fast_interval=1.0)
    assert after("+-").next_delay(settings, jitter=0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 9.0), (0.5, 10.0), (0.999999, 11.0)])
def test_the_interval_is_jittered_by_a_tenth(jitter: float, delay: float) -> None:
    assert after("+").next_delay(SETTINGS, jitter) == pytest.approx(delay, abs=1e-4)


def test_repr_tells_where_it_stands() -> None:
    assert repr(BackendHealth()) == "<BackendHealth unknown ready, not checked yet>"
    assert repr(after("+")) == "<BackendHealth up ready, 1 success>"
    assert repr(after("+--")) == "<BackendHealth up ready disputed, 2 failures in a row>"
    assert repr(after("++")) == "<BackendHealth up ready, 2 successes in a row>"
