"""From looks at the state to numbers per second."""

from gproxy.ctl.rates import Look, quantiles, view_of
from tests.support.states import backend, listener, state


def buckets(**counts):
    """`_1=3`: three that took 0.1 s."""
    return [{"seconds": float(f"0.{name[1:]}"), "count": count} for name, count in counts.items()]


def durations(response):
    return {"response": response, "connect": [], "session": []}


def test_rates_are_growth_per_second_of_the_last_two_looks():
    looks = [
        Look(10.0, state([backend("b1")], [listener("web", requests=0)], bytes_in=0)),
        Look(12.0, state([backend("b1", connects=5)], [listener("web", requests=10)], bytes_in=100)),
        Look(14.0, state([backend("b1", connects=8)], [listener("web", requests=30, responses_5xx=4)], bytes_in=300)),
    ]
    view = view_of(looks)
    assert view.seconds == 2
    assert (view.rates["bytes_in"], view.rates["requests"], view.rates["responses_5xx"]) == (100, 10, 2)
    assert view.backends[0].rates["connects"] == 1.5
    assert (view.backends[0].name, view.listeners[0].name) == ("app/b1", "web")


def test_one_look_has_no_rates():
    view = view_of([Look(10.0, state([backend("b1", connects=5)]))])
    assert (view.rates["bytes_in"], view.rates["requests"], view.backends[0].rates["connects"]) == (None, None, None)


def test_what_another_master_has_counted_is_another_count():
    view = view_of([Look(10.0, state([], bytes_in=900)), Look(11.0, state([], bytes_in=1000, master=1))])
    assert view.rates["bytes_in"] is None


def test_a_backend_that_a_reload_has_brought_and_a_counter_that_began_anew():
    view = view_of([
        Look(10.0, state([backend("b1", connects=9)])),
        Look(11.0, state([backend("b1", connects=2), backend("b2", connects=2)])),
    ])  # fmt: skip
    assert [line.rates["connects"] for line in view.backends] == [None, None]


def test_durations_are_those_since_the_first_look_that_is_kept():
    looks = [
        Look(1.0, state([], durations=durations(buckets(_1=100)))),
        Look(2.0, state([], durations=durations(buckets(_1=100, _2=50)))),
        Look(9.0, state([], durations=durations(buckets(_1=100, _2=98, _3=1, _5=1)))),
    ]
    view = view_of(looks)
    assert view.durations["response"] == {"p50": 0.2, "p95": 0.2, "p99": 0.3, "max": 0.5}
    assert (view.durations["connect"], view.window) == ({}, 8.0)


def test_quantiles_are_by_nearest_rank():
    assert quantiles({1.0: 50, 2.0: 50})["p50"] == 1.0
    assert quantiles({1.0: 49, 2.0: 51})["p50"] == 2.0
    assert quantiles({}) == {}
