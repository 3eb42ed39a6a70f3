"""What is counted, and under which names StatsD hears of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gproxy.core.termination import Ended
from gproxy.metrics import BackendStats, ListenerStats, MetricsCollector, Sample, Slot, Snapshot, changes, sanitise

B1 = "127.0.0.1:9100"
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
RESPONSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
COUNTERS = ("connects", "connect_failures", "reuses", "retries", "timeouts", "ejections")


@pytest.fixture
def metrics() -> MetricsCollector:
    return MetricsCollector([("app", B1), ("app", "b2")], ["web", "api.1"], ["db"])


def told(metrics: MetricsCollector, before: Snapshot | None = None) -> dict[str, tuple[str, float]]:
    """Name to kind and value, checked for doubles."""
    samples = changes(before, metrics.snapshot())
    result = {sample.name: (sample.kind, sample.value) for sample in samples}
    assert len(result) == len(samples)
    return result


def test_names_are_those_of_the_design(metrics: MetricsCollector) -> None:
    metrics.session_closed("--")
    metrics.connect_time.record(0.001)
    metrics.session_time.record(0.1)
    metrics.response_time.record(0.1)
    histograms = ("connect_time", "response_time", "session_time")
    backends = ("127_0_0_1_9100", "b2")
    assert set(told(metrics)) == {
        "active_connections_total",
        "bytes_transferred_total",
        "bytes_in",
        "bytes_out",
        "connections_accepted",
        "sessions_closed.normal",
        "pool_dirty",
        "pool_stale",
        "pool_overflow",
        "log_dropped",
        "hub_lag",
        *(f"{name}.{q}" for name in histograms for q in ("p50", "p95", "p99", "max")),
        *(f"active_connections.{listener}" for listener in ("web", "api_1", "db")),
        *(f"connections_rejected.{listener}" for listener in ("web", "api_1", "db")),
        *(f"idle_clients_closed.{listener}" for listener in ("web", "api_1")),
        *(f"requests.{listener}" for listener in ("web", "api_1")),
        *(f"responses.{listener}.{status}" for listener in ("web", "api_1") for status in RESPONSES),
        *(f"{name}.app.{b}" for name in ("connections_per_backend", "backend_health_status") for b in backends),
        *(
            f"upstream.app.backend.{b}.{name}"
            for b in backends
            for name in (*COUNTERS, "pool_idle", "queue", "ejected")
        ),
    }


@pytest.mark.parametrize(
    ("slot", "name", "kind"),
    [
        (Slot.CONNECTIONS_ACCEPTED, "connections_accepted", "c"),
        (Slot.ACTIVE, "active_connections_total", "g"),
        (Slot.BYTES_IN, "bytes_in", "c"),
        (Slot.BYTES_OUT, "bytes_out", "c"),
        (Slot.POOL_DIRTY, "pool_dirty", "c"),
        (Slot.POOL_STALE, "pool_stale", "c"),
        (Slot.POOL_OVERFLOW, "pool_overflow", "c"),
        (Slot.LOG_DROPPED, "log_dropped", "c"),
    ],
)
def test_each_slot_shows_under_its_name(metrics: MetricsCollector, slot: int, name: str, kind: str) -> None:
    metrics.count(slot)
    metrics.count(slot, 41)
    assert told(metrics)[name] == (kind, 42)


@pytest.mark.parametrize(
    ("attribute", "name", "kind"),
    [(c, f"upstream.app.backend.b2.{c}", "c") for c in COUNTERS]
    + [(g, f"upstream.app.backend.b2.{g}", "g") for g in ("pool_idle", "queue", "ejected")]
    + [("active", "connections_per_backend.app.b2", "g"), ("healthy", "backend_health_status.app.b2", "g")],
)
def test_each_number_of_a_backend_shows_under_its_name_alone(
    metrics: MetricsCollector, attribute: str, name: str, kind: str
) -> None:
    before = told(metrics)
    stats = metrics.backend("app", "b2")
    setattr(stats, attribute, getattr(stats, attribute) + 3)
    assert set(told(metrics).items()) - set(before.items()) == {(name, (kind, 3))}


@pytest.mark.parametrize(
    ("attribute", "name"),
    [("requests", "requests.api_1"), ("idle_closed", "idle_clients_closed.api_1")]
    + [(f"responses_{status}", f"responses.api_1.{status}") for status in RESPONSES],
)
def test_each_number_of_a_listener_shows_under_its_name_alone(
    metrics: MetricsCollector, attribute: str, name: str
) -> None:
    before = told(metrics)
    setattr(metrics.listener("api.1"), attribute, 3)
    assert set(told(metrics).items()) - set(before.items()) == {(name, ("c", 3))}


def test_hot_code_counts_requests_and_responses_in_the_view(metrics: MetricsCollector) -> None:
    stats = metrics.listener("web")
    stats.view[stats.base + ListenerStats.REQUESTS] += 2
    for status in (101, 200, 299, 304, 404, 503, 599):
        stats.view[stats.base + status // 100] += 1
    now = told(metrics)
    assert now["requests.web"] == ("c", 2)
    assert [now[f"responses.web.{status}"][1] for status in RESPONSES] == [1, 2, 1, 1, 2]


def test_requests_tell_their_growth_and_zero(metrics: MetricsCollector) -> None:
    metrics.listener("web").requests += 5
    before = metrics.snapshot()
    metrics.listener("web").requests += 2
    now = told(metrics, before)
    assert (now["requests.web"], now["requests.api_1"]) == (("c", 2), ("c", 0))


def test_tcp_listeners_have_no_requests() -> None:
    names = told(MetricsCollector([("app", "b1")], tcp_listeners=["db"]))
    assert [name for name in names if name.startswith(("requests", "responses"))] == []


@pytest.mark.parametrize("listener", ["api.1", "db"])
@pytest.mark.parametrize(
    ("attribute", "name", "kind"),
    [("active", "active_connections", "g"), ("rejected", "connections_rejected", "c")],
)
def test_each_number_of_any_listener_shows_under_its_name_alone(
    metrics: MetricsCollector, listener: str, attribute: str, name: str, kind: str
) -> None:
    before = told(metrics)
    setattr(metrics.listener(listener), attribute, 3)
    assert set(told(metrics).items()) - set(before.items()) == {(f"{name}.{sanitise(listener)}", (kind, 3))}


@pytest.mark.parametrize(
    "name",
    ["requests.LISTENER", "responses.LISTENER.1xx", "response_time.p50", "idle_clients_closed.LISTENER",
     "active_connections.LISTENER", "connections_rejected.LISTENER"],
)  # fmt: skip
def test_http_metrics_are_documented(name: str) -> None:
    metrics = MetricsCollector([], ["LISTENER"])
    metrics.response_time.record(0.1)
    assert name in told(metrics)
    assert f"`{name}`" in DOCS.read_text()


def test_bytes_of_both_directions_add_up(metrics: MetricsCollector) -> None:
    metrics.view[Slot.BYTES_IN] += 2**40
    metrics.view[Slot.BYTES_OUT] += 1
    assert told(metrics)["bytes_transferred_total"] == ("c", 2**40 + 1)


def test_counters_tell_their_growth_and_gauges_their_value(metrics: MetricsCollector) -> None:
    metrics.count(Slot.CONNECTIONS_ACCEPTED, 5)
    metrics.count(Slot.ACTIVE, 5)
    before = metrics.snapshot()
    metrics.count(Slot.CONNECTIONS_ACCEPTED, 2)
    metrics.count(Slot.ACTIVE, -1)
    now = told(metrics, before)
    assert [now[name] for name in ("connections_accepted", "active_connections_total")] == [("c", 2), ("g", 4)]


def test_counter_at_rest_is_told_as_zero(metrics: MetricsCollector) -> None:
    metrics.count(Slot.BYTES_IN, 7)
    assert told(metrics, metrics.snapshot())["bytes_in"] == ("c", 0)


def test_codes_keep_their_case(metrics: MetricsCollector) -> None:
    for code in ("CD", "cD", "cD", "--"):
        metrics.session_closed(code)
    now = told(metrics)
    assert {name: value for name, value in now.items() if name.startswith("sessions_closed")} == {
        "sessions_closed.CD": ("c", 1),
        "sessions_closed.cD": ("c", 2),
        "sessions_closed.normal": ("c", 1),
    }


def test_every_code_is_counted_by_itself(metrics: MetricsCollector) -> None:
    for n, code in enumerate(Ended, start=1):
        for _ in range(n):
            metrics.session_closed(code)
    values = [value for name, (_, value) in told(metrics).items() if name.startswith("sessions_closed.")]
    assert values == list(range(1, len(Ended) + 1))


def test_code_seen_for_the_first_time_counts_from_zero(metrics: MetricsCollector) -> None:
    before = metrics.snapshot()
    metrics.session_closed("SC")
    assert told(metrics, before)["sessions_closed.SC"] == ("c", 1)


def test_unknown_names_raise(metrics: MetricsCollector) -> None:
    with pytest.raises(KeyError):
        metrics.session_closed("ZZ")
    with pytest.raises(KeyError):
        metrics.backend("app", "b3")
    with pytest.raises(KeyError):
        metrics.listener("app")


def test_percentiles_are_of_the_interval_in_milliseconds(metrics: MetricsCollector) -> None:
    metrics.connect_time.record(30.0)
    before = metrics.snapshot()
    for _ in range(98):
        metrics.connect_time.record(0.010)
    for _ in range(2):
        metrics.connect_time.record(1.0)
    now = told(metrics, before)
    values = [now[f"connect_time.{q}"][1] for q in ("p50", "p95", "p99", "max")]
    assert values == pytest.approx([10, 10, 1000, 1000], rel=0.06)


def test_percentiles_of_an_idle_interval_are_left_out(metrics: MetricsCollector) -> None:
    metrics.session_time.record(1.0)
    assert "session_time.p50" in told(metrics)
    assert "session_time.p50" not in told(metrics, metrics.snapshot())


def test_histograms_are_counted_apart(metrics: MetricsCollector) -> None:
    metrics.connect_time.record(0.010)
    metrics.response_time.record(0.100)
    metrics.session_time.record(1.0)
    now = told(metrics)
    values = [now[f"{name}_time.{q}"][1] for name in ("connect", "response", "session") for q in ("p50", "max")]
    assert values == pytest.approx([10, 10, 100, 100, 1000, 1000], rel=0.06)


def test_hub_lag_is_the_worst_since_the_last_snapshot(metrics: MetricsCollector) -> None:
    for lag in (0.002, 0.0305, 0.001):
        metrics.hub_lag(lag)
    assert told(metrics)["hub_lag"] == ("g", 30.5)
    assert told(metrics)["hub_lag"] == ("g", 0)


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("127.0.0.1:9100", "127_0_0_1_9100"),
        ("[::1]:80", "___1__80"),
        ("unix:/run/a b.sock", "unix__run_a_b_sock"),
        ("a|b@c:d\ne", "a_b_c_d_e"),
        ("b\u00e9", "b_"),
        ("", "_"),
        ("ok-name_2", "ok-name_2"),
    ],
)
def test_sanitise(name: str, node: str) -> None:
    assert sanitise(name) == node


def test_backends_that_would_share_a_name_are_told_apart() -> None:
    metrics = MetricsCollector([("app", "b.1"), ("app", "b_1"), ("api", "b_1"), ("app", "b:1")])
    for value, pair in enumerate([("app", "b.1"), ("app", "b_1"), ("api", "b_1"), ("app", "b:1")], start=1):
        metrics.backend(*pair).active = value
    now = told(metrics)
    names = ("app.b_1", "app.b_1_2", "api.b_1", "app.b_1_3")
    assert [now[f"connections_per_backend.{name}"][1] for name in names] == [1, 2, 3, 4]


def test_listeners_that_would_share_a_name_are_told_apart() -> None:
    names = ["web.1", "web_1", "web:1"]
    metrics = MetricsCollector([], names)
    for value, name in enumerate(names, start=1):
        metrics.listener(name).requests = value
    now = told(metrics)
    assert [now[f"requests.{name}"][1] for name in ("web_1", "web_1_2", "web_1_3")] == [1, 2, 3]
    assert "responses.web_1_3.2xx" in now


def test_listeners_backends_and_histograms_share_no_slot() -> None:
    metrics = MetricsCollector([("app", "b1")], ["web"])
    listener, backend = metrics.listener("web"), metrics.backend("app", "b1")
    metrics.session_closed("sL")  # the last of the codes, next to the listener's slots
    listener.requests, listener.responses_5xx = 2, 3
    backend.connects, backend.healthy = 4, 5
    metrics.connect_time.record(0.0)
    now = told(metrics)
    assert now["sessions_closed.sL"][1] == 1
    assert (now["requests.web"][1], now["responses.web.5xx"][1]) == (2, 3)
    assert (backend.connects, backend.healthy, sum(metrics.connect_time.counts())) == (4, 5, 1)


def test_a_forked_child_counts_into_the_same_slots(metrics: MetricsCollector) -> None:
    child = os.fork()
    if child == 0:
        metrics.count(Slot.ACTIVE, 3)
        os._exit(0)
    os.waitpid(child, 0)
    assert metrics.view[Slot.ACTIVE] == 3


def test_another_one_s_counters_are_added_and_its_gauges_are_not(metrics: MetricsCollector) -> None:
    other = MetricsCollector([("app", "b0"), ("app", "b2")], ["api.1"], ["web"])
    for each in (metrics, other):
        each.view[Slot.BYTES_IN], each.view[Slot.ACTIVE], each.view[Slot.HUB_LAG] = 5, 5, 5000
        stats = each.backend("app", "b2")
        for name in (*COUNTERS, "active", "healthy", *BackendStats.GAUGES):
            setattr(stats, name, 3)
        each.listener("web").active = each.listener("web").rejected = 2
        each.session_time.record(1.0)
        each.session_closed("--")
    before = told(metrics)
    metrics.hub_lag(0.005)  # the snapshot has cleared it
    metrics.add_counters(other)
    after = told(metrics)
    grown = {name: value - before[name][1] for name, (_, value) in after.items() if value != before[name][1]}
    assert grown == {
        "bytes_in": 5,
        "bytes_transferred_total": 5,
        "connections_rejected.web": 2,
        "sessions_closed.normal": 1,
        **{f"upstream.app.backend.b2.{name}": 3 for name in COUNTERS},
    }
    assert sum(metrics.session_time.counts()) == 2


def test_a_process_that_has_ended_has_no_gauges_and_keeps_its_counters(metrics: MetricsCollector) -> None:
    for slot in range(len(metrics.view)):
        metrics.view[slot] = 1
    metrics.clear_gauges()
    now = told(metrics)
    gauges = {name: value for name, (kind, value) in now.items() if kind == "g" and "_time." not in name}
    assert set(gauges.values()) == {0}
    assert 0 not in {value for kind, value in now.values() if kind == "c"}


def test_samples_compare_as_values() -> None:
    before, after = Snapshot({}, {"n": 1}, {}), Snapshot({"g": 2.0}, {"n": 4}, {"h": [0, 0]})
    assert changes(before, after) == [Sample("g", "g", 2.0), Sample("n", "c", 3)]


def test_repr_tells_the_state(metrics: MetricsCollector) -> None:
    metrics.backend("app", "b2").active = 2
    assert repr(metrics.backend("app", "b2")) == (
        "<BackendStats app/b2 healthy=0 active=2 pool_idle=0 queue=0 ejected=0>"
    )
    metrics.listener("web").responses_4xx = 7
    assert repr(metrics.listener("web")) == "<ListenerStats web requests=0 1xx=0 2xx=0 3xx=0 4xx=7 5xx=0>"
    assert repr(metrics) == "<MetricsCollector accepted=0 active=0 backends=2>"
