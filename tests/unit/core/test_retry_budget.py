"""The retry budget, against the plain reading of its law."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.retry import RetryBudget


def retries_allowed(budget: RetryBudget, now: float) -> int:
    """How many retries it grants at this moment."""
    count = 0
    while budget.may_retry(now):
        budget.retried(now)
        count += 1
    return count


def with_requests(count: int, now: float) -> RetryBudget:
    budget = RetryBudget()
    for _ in range(count):
        budget.request(now)
    return budget


def test_a_quiet_proxy_may_retry_three_times() -> None:
    assert retries_allowed(RetryBudget(), 100.0) == 3


def test_a_busy_one_may_retry_a_fifth() -> None:
    assert retries_allowed(with_requests(99, 100.0), 100.0) == 19


def test_retries_come_back_after_ten_seconds() -> None:
    budget = RetryBudget()
    assert retries_allowed(budget, 100.0) == 3
    assert retries_allowed(budget, 109.9) == 0
    assert retries_allowed(budget, 110.0) == 3


def test_old_requests_buy_nothing() -> None:
    budget = with_requests(100, 100.0)
    assert retries_allowed(budget, 110.0) == 3


def test_retries_outlast_the_requests_that_bought_them() -> None:
    budget = with_requests(100, 100.0)
    budget.request(105.0)
    assert retries_allowed(budget, 105.0) == 20
    assert retries_allowed(budget, 112.0) == 0


def test_a_long_silence_forgets_everything() -> None:
    budget = with_requests(100, 100.0)
    retries_allowed(budget, 100.0)
    assert retries_allowed(budget, 100_000.0) == 3


events = st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.integers(1, 12)), max_size=60)


@given(events)
def test_it_grants_exactly_what_the_law_says(steps: list[tuple[float, bool, int]]) -> None:
    budget, now = RetryBudget(), 0.0
    requests: list[int] = []
    retries: list[int] = []
    for passed, is_retry, times in steps:
        now += passed
        for _ in range(times):
            if not is_retry:
                budget.request(now)
                requests.append(int(now))
                continue
            recent = [sum(second > int(now) - 10 for second in seconds) for seconds in (retries, requests)]
            assert budget.may_retry(now) is (recent[0] + 1 <= max(3, recent[1] / 5))
            if budget.may_retry(now):
                budget.retried(now)
                retries.append(int(now))


def test_repr_tells_where_it_stands() -> None:
    budget = with_requests(100, 100.0)
    budget.retried(100.0)
    assert repr(budget) == "<RetryBudget 1 retries of 20 in 10 s>"
