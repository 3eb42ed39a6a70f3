"""Counters as Prometheus reads them."""

import subprocess

import pytest

from gproxy.admin.prometheus import exposition, gauge
from gproxy.config import parse
from gproxy.core.histogram import SLOTS, approximate_sum, cumulative, percentile
from gproxy.metrics import MetricsCollector, Slot
from gproxy.shared import Shared, Totals

CONFIG = """
listeners: [{name: web, bind: 'a:1', mode: http, upstream: app}]
workers: 2
upstreams: {app: {backends: [{name: b1, address: 'b:1'}BACKENDS]}}
"""


def config(backends=""):
    return parse(CONFIG.replace("BACKENDS", backends), "f.yaml", {})


@pytest.fixture
def metrics():
    return MetricsCollector([("app", "127.0.0.1:9100"), ("app", 'odd"\\')], ["web"], ["db"])


def samples(text):
    """Each sample by what stands before its value."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = dict(line.rsplit(" ", 1) for line in lines)
    assert len(found) == len(lines)
    return {name: float(value) for name, value in found.items()}


def test_what_is_in_a_path_for_statsd_is_a_label(metrics):
    metrics.backend("app", "127.0.0.1:9100").connects += 3
    metrics.listener("web").responses_2xx += 2
    metrics.session_closed("cD")
    metrics.count(Slot.BYTES_IN, 70_000)

    found = samples(exposition(metrics))

    assert found['gproxy_backend_connects_total{upstream="app",backend="127.0.0.1:9100"}'] == 3
    assert found['gproxy_http_responses_total{listener="web",class="2xx"}'] == 2
    assert found['gproxy_sessions_closed_total{code="cD"}'] == 1
    assert found['gproxy_sessions_closed_total{code="--"}'] == 0
    assert found['gproxy_transferred_bytes_total{direction="in"}'] == 70_000
    assert not any("CD" in name for name in found)  # most codes are never seen
    assert not any("http" in name and "db" in name for name in found)


def test_labels_are_escaped(metrics):
    assert r'gproxy_backend_up{upstream="app",backend="odd\"\\"} 0' in exposition(metrics)
    assert exposition(metrics, [gauge("x", "a\nb").add(1, name="c\nd")]).endswith(
        '# HELP gproxy_x a\\nb\n# TYPE gproxy_x gauge\ngproxy_x{name="c\\nd"} 1\n'
    )


def test_a_histogram_is_cumulative_and_exact_at_its_edges(metrics):
    for seconds in (1e-9, 0.124, 0.126, 0.99, 5000):
        metrics.connect_time.record(seconds)

    found = samples(exposition(metrics))

    def bucket(le):
        return found[f'gproxy_connect_duration_seconds_bucket{{le="{le}"}}']

    assert [bucket(le) for le in ("6.103515625e-05", "0.125", "0.25", "1", "64", "1024", "+Inf")] == [
        1,
        2,
        3,
        4,
        4,
        4,
        5,
    ]
    assert found["gproxy_connect_duration_seconds_count"] == 5
    assert found["gproxy_http_response_duration_seconds_count"] == 0


def test_every_edge_that_there_is_counts_what_lies_below():
    counts = [1] * SLOTS
    below = cumulative(counts, range(-17, 13))
    assert [count for _, count in below] == [8 * n for n in range(30)]
    for edge, count in below[1:-1]:
        assert percentile(counts, count / SLOTS) < edge < percentile(counts, (count + 1) / SLOTS)


def test_the_sum_is_near():
    metrics = MetricsCollector([])
    durations = [0.0001 * n for n in range(1, 1000)]
    for seconds in durations:
        metrics.session_time.record(seconds)
    assert approximate_sum(metrics.session_time.counts()) == pytest.approx(sum(durations), rel=1 / 17)


def test_seconds_are_seconds(metrics):
    metrics.hub_lag(0.25)
    assert samples(exposition(metrics))["gproxy_event_loop_lag_seconds"] == 0.25


def test_promtool_finds_nothing_to_say(metrics):
    metrics.session_closed("--")
    metrics.connect_time.record(0.1)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition(metrics), capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_counters_are_sums_and_go_on_across_a_reload():
    """Of names that are gone the numbers go; those of processes stay whole."""
    first = Shared(config(", {name: gone, address: 'b:2'}"))
    for slot in (0, 1):
        row = first.row(slot)
        row.backend("app", "b1").connects += 2
        row.backend("app", "gone").connects += 7
        row.listener("web").active += 1
        row.view[Slot.ACTIVE] += 1
        row.count(Slot.CONNECTIONS_ACCEPTED, 5)
        row.backend("app", "b1").ejected = 1
    second = Shared(config())
    second.row(0).backend("app", "b1").connects += 1
    second.steward_row().backend("app", "b1").healthy = 1
    first.steward_row().backend("app", "b1").healthy = 1

    def seen(totals):
        total = totals.total()
        backend = total.backend("app", "b1")
        return [backend.connects, total.view[Slot.CONNECTIONS_ACCEPTED], backend.healthy, backend.ejected]

    totals = Totals(second, [first])
    assert seen(totals) == [5, 10, 1, 0]
    assert (totals.total().active, totals.total().listener("web").active) == (2, 2)
    first.forget(0)
    first.forget(1)
    totals.over(first)
    assert seen(totals) == [5, 10, 1, 0]
    assert seen(Totals(second)) == [5, 10, 1, 0]  # the next steward
    assert totals.total().active == 0


def test_a_look_leaves_the_worst_lag_to_the_reporter():
    shared = Shared(config())
    shared.row(1).hub_lag(0.5)
    totals = Totals(shared)
    assert totals.total().view[Slot.HUB_LAG] == totals.total().view[Slot.HUB_LAG] == 500_000
