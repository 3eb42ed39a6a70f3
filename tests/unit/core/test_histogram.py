"""Percentiles from buckets, against those of the values themselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.histogram import HIGHEST, LOWEST, RELATIVE_ERROR, SLOTS, Histogram, percentile, since

durations = st.floats(LOWEST, HIGHEST, exclude_max=True)
quantiles = st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0])


def histogram(*seconds: float) -> Histogram:
    result = Histogram(memoryview(bytearray(8 * SLOTS)).cast("q"))
    for duration in seconds:
        result.record(duration)
    return result


def nearest_rank(values: list[float], percent: int) -> float:
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def test_the_range_is_ten_microseconds_to_an_hour() -> None:
    assert LOWEST < 10e-6
    assert HIGHEST > 3600


@given(durations)
def test_a_duration_is_told_to_a_seventeenth(seconds: float) -> None:
    assert histogram(seconds).max == pytest.approx(seconds, rel=RELATIVE_ERROR + 1e-12)


@given(st.lists(durations, min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_that_of_the_values_to_a_seventeenth(values: list[float], percent: int) -> None:
    exact = nearest_rank(values, percent)
    assert percentile(histogram(*values).counts(), percent / 100) == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-12)


@given(st.lists(st.floats(), max_size=50))
def test_percentiles_grow_with_their_share(values: list[float]) -> None:
    counts = histogram(*values).counts()
    told = [percentile(counts, q) for q in (0.5, 0.95, 0.99, 1.0)]
    assert told == sorted(told)


@given(st.floats())
def test_every_float_is_counted_once(seconds: float) -> None:
    assert sum(histogram(seconds).counts()) == 1


@pytest.mark.parametrize(
    ("seconds", "slot"),
    [
        (LOWEST, 0),
        (HIGHEST * (1 - 1e-12), SLOTS - 1),
        (0.0, 0),
        (-1.0, 0),
        (math.nan, 0),
        (1e-9, 0),
        (HIGHEST, SLOTS - 1),
        (1e9, SLOTS - 1),
        (math.inf, SLOTS - 1),
    ],
)
def test_the_ends_hold_what_lies_outside(seconds: float, slot: int) -> None:
    assert histogram(seconds).counts().index(1) == slot


def test_every_slot_is_used() -> None:
    counts = histogram(*(LOWEST * 2 ** (i / 64) for i in range(64 * 29))).counts()
    assert all(counts)


def test_without_durations_there_is_nothing_to_tell() -> None:
    assert percentile([0] * SLOTS, 0.5) == 0.0
    assert histogram().max == 0.0


def test_a_share_that_falls_on_a_rank_takes_that_rank() -> None:
    counts = histogram(*([0.001] * 7 + [1.0] * 93)).counts()
    assert percentile(counts, 0.07) == pytest.approx(0.001, rel=RELATIVE_ERROR)


@given(st.lists(durations, max_size=30), st.lists(durations, max_size=30), quantiles)
def test_what_was_recorded_since_a_snapshot_stands_for_itself(
    earlier: list[float], later: list[float], q: float
) -> None:
    both = histogram(*earlier)
    before = both.counts()
    for duration in later:
        both.record(duration)
    assert percentile(since(both.counts(), before), q) == percentile(histogram(*later).counts(), q)


def test_it_keeps_to_its_slots() -> None:
    view = memoryview(bytearray(8 * (SLOTS + 2))).cast("q")
    between = Histogram(view, base=1)
    for duration in (0.0, 1.0, 1e9):
        between.record(duration)
    assert view[0] == view[SLOTS + 1] == 0
    assert sum(between.counts()) == 3


def test_repr_tells_where_it_stands() -> None:
    assert repr(histogram(1.0, 1.0)) == "<Histogram 2 durations, p50 1.06 s, p99 1.06 s, max 1.06 s>"
