"""The test suite's own way of waiting."""

from __future__ import annotations

import gevent
import pytest

from tests.support.poll import eventually


def test_returns_the_first_true_value_and_lets_greenlets_run() -> None:
    seen: list[int] = []
    gevent.spawn_later(0.02, seen.append, 7)
    assert eventually(lambda: seen) == [7]


def test_names_what_did_not_happen() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.05 s: the backend is up"):
        eventually(lambda: False, timeout=0.05, what="the backend is up")
