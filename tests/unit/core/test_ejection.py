"""Passive health, on a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.ejection import Ejection, may_eject
from gproxy.core.settings import PassiveHealthSettings

SETTINGS = PassiveHealthSettings(connect_failures=3, eject_for=10.0, max_eject_for=35.0)


def eject(ejection: Ejection, at: float) -> float:
    """Fail until it is ejected; the length of the ejection."""
    for _ in range(SETTINGS.connect_failures - 1):
        assert not ejection.failed(SETTINGS, at, may_eject=True)
    assert ejection.failed(SETTINGS, at, may_eject=True)
    return ejection.until - at


def test_failures_in_a_row_eject_for_a_while() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)
    assert ejection.ejected(100.0)
    assert ejection.ejected(109.9)
    assert not ejection.ejected(110.0)


def test_a_new_backend_is_not_ejected() -> None:
    assert not Ejection().ejected(0.0)


def test_a_success_starts_the_count_again() -> None:
    ejection = Ejection()
    for _ in range(5):
        ejection.failed(SETTINGS, 100.0, may_eject=True)
        ejection.failed(SETTINGS, 100.0, may_eject=True)
        ejection.succeeded()
    assert not ejection.ejected(100.0)


def test_after_an_ejection_the_count_starts_again() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)
    assert not ejection.failed(SETTINGS, 110.0, may_eject=True)


def test_dials_that_fail_during_an_ejection_say_nothing_new() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)
    for _ in range(5):
        assert not ejection.failed(SETTINGS, 105.0, may_eject=True)
    assert ejection.until == 110.0
    assert not ejection.failed(SETTINGS, 111.0, may_eject=True)


def test_a_failure_that_may_not_eject_is_kept() -> None:
    ejection = Ejection()
    for _ in range(4):
        assert not ejection.failed(SETTINGS, 100.0, may_eject=False)
    assert ejection.failed(SETTINGS, 101.0, may_eject=True)


def test_a_backend_that_is_readmitted_serves_at_once() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)
    ejection.readmit(104.0)
    assert not ejection.ejected(104.0)


def test_readmission_starts_the_count_again() -> None:
    ejection = Ejection()
    for _ in range(2):
        ejection.failed(SETTINGS, 100.0, may_eject=True)
    ejection.readmit(104.0)
    assert not ejection.failed(SETTINGS, 104.0, may_eject=True)


def test_readmission_after_the_ejection_prolongs_no_memory_of_it() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)  # until 110
    ejection.readmit(119.0)
    assert eject(ejection, at=120.0) == 10.0


def test_zero_turns_it_off() -> None:
    ejection, off = Ejection(), PassiveHealthSettings(connect_failures=0)
    assert not any(ejection.failed(off, 100.0, may_eject=True) for _ in range(10))


def test_each_ejection_is_longer_up_to_the_longest() -> None:
    ejection, now, lengths = Ejection(), 100.0, []
    for _ in range(5):
        lengths.append(eject(ejection, now))
        now = ejection.until
    assert lengths == pytest.approx([10.0, 20.0, 30.0, 35.0, 35.0])


def test_a_good_spell_as_long_as_the_last_ejection_takes_one_off() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)
    eject(ejection, at=110.0)  # until 130, for 20 seconds
    assert eject(ejection, at=150.0) == 20.0


def test_a_shorter_spell_takes_nothing_off() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)
    eject(ejection, at=110.0)
    assert eject(ejection, at=149.9) == pytest.approx(30.0)


def test_a_long_good_spell_forgets_everything() -> None:
    ejection = Ejection()
    eject(ejection, at=100.0)
    eject(ejection, at=110.0)
    assert eject(ejection, at=9999.0) == 10.0


@pytest.mark.parametrize(
    ("ejected", "total", "percent", "may"),
    [
        (0, 1, 50, False),
        (0, 2, 50, True),
        (1, 2, 50, False),
        (0, 3, 50, True),
        (1, 3, 50, False),
        (0, 1, 100, True),
        (0, 9, 10, False),
        (0, 5, 0, False),
    ],
)
def test_the_share_that_may_be_ejected(ejected: int, total: int, percent: int, may: bool) -> None:
    assert may_eject(ejected, total, percent) is may


@given(st.integers(1, 50), st.integers(0, 100))
def test_never_more_than_the_share_and_as_many_as_it_allows(total: int, percent: int) -> None:
    ejected = 0
    while may_eject(ejected, total, percent):
        ejected += 1
    assert ejected == total * percent // 100


def test_repr_tells_where_it_stands() -> None:
    ejection = Ejection()
    assert repr(ejection) == "<Ejection never ejected, 0 failed in a row>"
    eject(ejection, at=100.0)
    assert repr(ejection) == "<Ejection until 110.0, times 1, 0 failed in a row>"
