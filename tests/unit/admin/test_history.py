"""The last ten minutes, from the sums over all processes."""

import json

import pytest

from gproxy.admin import history as module
from gproxy.admin.history import COLUMNS, History, states_of
from gproxy.core.balance import RoundRobin
from gproxy.core.health import Administrative, Operational
from gproxy.core.settings import BackendSettings, UpstreamSettings
from gproxy.metrics import MetricsCollector, Slot
from gproxy.upstream import Upstream

BACKENDS = [("app", "b1"), ("app", "b2"), ("api", "c1")]


@pytest.fixture
def total():
    return MetricsCollector(BACKENDS, ["web"], ["db"])


@pytest.fixture
def history():
    return History(BACKENDS)


def last(history):
    return dict(zip(COLUMNS, history.after(history.number - 1)[0], strict=True))


def test_counters_are_rates_and_gauges_are_as_they_were(history, total):
    history.observe(100.0, total, "uuu")
    assert history.number == 0  # there is nothing yet to measure from

    web = total.listener("web")
    web.requests, web.responses_4xx, web.responses_5xx = 40, 4, 1
    total.count(Slot.BYTES_IN, 1000)
    total.count(Slot.ACTIVE, 7)
    total.backend("app", "b1").active, total.backend("api", "c1").active = 2, 3
    total.session_closed("--")
    total.session_closed("SC")
    total.session_closed("CD")
    history.observe(102.0, total, "ud?")

    found = last(history)
    assert (found["at"], found["sessions"], found["lent"], found["able"]) == (102.0, 7, 5, 2)
    assert (found["requests"], found["responses_4xx"], found["responses_5xx"]) == (20, 2, 0.5)
    assert (found["bytes_in"], found["bytes_out"]) == (500, 0)
    assert (found["ended"], found["failed"]) == (1.5, 0.5)


def test_percentiles_are_of_what_was_recorded_in_between(history, total):
    total.response_time.record(3.0)
    history.observe(0.0, total, "uuu")
    for _ in range(99):
        total.response_time.record(0.001)
    total.response_time.record(0.1)
    history.observe(2.0, total, "uuu")
    found = last(history)
    assert found["response_time_p50"] == found["response_time_p99"] == pytest.approx(1, rel=0.06)
    assert found["connect_time_p50"] is None
    history.observe(4.0, total, "uuu")
    assert last(history)["response_time_p99"] is None


def test_what_an_ended_configuration_takes_along_is_no_fall_below_zero(history, total):
    total.listener("web").requests = 10
    total.response_time.record(1)
    history.observe(0.0, total, "uuu")
    history.observe(2.0, MetricsCollector(BACKENDS, ["web"], ["db"]), "uuu")
    assert (last(history)["requests"], last(history)["response_time_p50"]) == (0, None)


def test_who_waits_for_any_backend_of_an_upstream_waits_once(history, total):
    total.backend("app", "b1").queue = total.backend("app", "b2").queue = 5
    total.backend("api", "c1").queue = 1
    history.observe(0.0, total, "uuu")
    history.observe(2.0, total, "uuu")
    assert last(history)["waiting"] == 6


def test_the_oldest_samples_are_dropped(history, total):
    for second in range(module.LENGTH + 11):
        history.observe(float(second), total, "uuu" if second < module.LENGTH + 10 else "ddd")
    assert history.number == module.LENGTH + 10
    kept = history.after(0)
    assert (len(kept), kept[0][0]) == (module.LENGTH, 11.0)
    assert [sample[0] for sample in history.after(history.number - 2)] == [309.0, 310.0]
    assert history.after(history.number) == []
    assert history.strips()["api"] == {"c1": "u" * (module.LENGTH - 1) + "d"}


def test_another_process_goes_on_with_it_and_with_other_backends(history, total):
    history.observe(0.0, total, "uuu")
    history.observe(2.0, total, "udm")
    dumped = json.loads(json.dumps(history.dump()))

    later = History([("api", "c1"), ("app", "new"), ("app", "b2")])
    later.load(dumped)
    assert later.strips() == {"api": {"c1": "m"}, "app": {"new": " ", "b2": "d"}}
    assert [list(sample) for sample in later.after(0)] == [list(sample) for sample in history.after(0)]
    later.load({**dumped, "columns": ["another", "version"]})
    assert later.number == 1


@pytest.mark.parametrize(
    ("operational", "administrative", "ejected", "letter"),
    [
        (Operational.UNKNOWN, Administrative.READY, 0, "?"),
        (Operational.UP, Administrative.READY, 0, "u"),
        (Operational.UP, Administrative.READY, 1, "e"),
        (Operational.DOWN, Administrative.READY, 1, "d"),
        (Operational.DOWN, Administrative.DRAIN, 0, "r"),
        (Operational.UP, Administrative.MAINT, 1, "m"),
    ],
)
def test_a_letter_for_each_state(operational, administrative, ejected, letter):
    total = MetricsCollector([("app", "b1")])
    settings = UpstreamSettings(name="app", backends=(BackendSettings(name="b1"),))
    upstream = Upstream(settings, total, lambda _backends: RoundRobin())
    [backend] = upstream.backends
    backend.health.told(operational)
    backend.health.administrative = administrative
    total.backend("app", "b1").ejected = ejected
    assert states_of([upstream], total) == letter
