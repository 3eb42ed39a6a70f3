"""Numbers and states in a few letters."""

import pytest

from gproxy.ctl.words import brief, byte_rate, duration, span, standing
from tests.support.states import backend


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59.9, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"),
     (3661, "1 h 1 min"), (7205, "2 h"), (90000, "1 d 1 h"), (86400 * 400, "400 d")],
)  # fmt: skip
def test_a_span_has_two_units_at_most(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.04, "0.0"), (0.4, "0.4"), (9.96, "10"), (17.4, "17"), (999.4, "999"), (999.6, "1k"), (1024, "1.02k"),
     (31_400_000, "31.4M"), (999_960, "1M"), (2e9, "2G"), (5e15, "5e+03T")],
)  # fmt: skip
def test_a_number_has_three_digits(number, text):
    assert brief(number) == text


def test_rates_and_durations():
    assert [byte_rate(12), byte_rate(31_400_000)] == ["12 B/s", "31.4 MB/s"]
    assert [duration(x) for x in (3.42, 0.0012, 0.000417, 0.9999)] == ["3.42 s", "1.2 ms", "417 us", "1 s"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "up"),
        ({"operational": "down", "administrative": "maint"}, "down, maint"),
        ({"ejected": 1}, "up, ejected 1/2"),
        ({"ejected": 2, "administrative": "drain"}, "up, drain, ejected"),
    ],
)
def test_a_backends_state(more, text):
    assert standing(backend("b1", **more), 2) == text
