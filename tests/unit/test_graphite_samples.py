"""What etc/graphite says agrees with itself, and with what gproxy tells StatsD."""

import configparser
import itertools
import re
from fnmatch import fnmatchcase

import pytest

from gproxy.metrics import MetricsCollector
from tests.support.proxy import TOP

SAMPLES = TOP / "etc/graphite"


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.syspath_prepend(str(TOP / "loadtest"))
    import graphite_graphs

    return graphite_graphs


def real_names():
    """Of a proxy on which everything has happened: `c NAME` is a counter, `g NAME` a gauge."""
    collector = MetricsCollector([("app", "b1")], ["web"], ["raw"])
    collector.session_closed("CD")
    snapshot = collector.snapshot()
    percentiles = [f"{name}.{part}" for name in snapshot.histograms for part in ("p50", "p95", "p99", "max")]
    return {f"c {name}" for name in snapshot.counters} | {f"g {name}" for name in (*snapshot.gauges, *percentiles)}


def is_named(name, pattern):
    nodes, parts = name.split("."), pattern.split(".")
    return len(nodes) == len(parts) and all(itertools.starmap(fnmatchcase, zip(nodes, parts, strict=True)))


def sample(name):
    parser = configparser.RawConfigParser()
    parser.read(SAMPLES / name)
    return parser


def statsd(key):
    [value] = re.findall(rf"^ +{key}: (.+?),?$", (SAMPLES / "statsd.js").read_text(), re.MULTILINE)
    return value


def test_every_target_draws_a_metric_that_there_is(graphs):
    for graph in graphs.all_graphs():
        for target in graph.targets:
            drawn = graphs.names(target)
            assert drawn, target
            for pattern in drawn:
                assert any(is_named(name, pattern) for name in real_names()), target


def test_every_metric_is_drawn(graphs):
    patterns = [name for graph in graphs.all_graphs() for target in graph.targets for name in graphs.names(target)]
    left = {name for name in real_names() if not any(is_named(name, pattern) for pattern in patterns)}
    assert left == {"c bytes_transferred_total"}  # bytes_in and bytes_out are its parts


def test_grafana_has_the_same_graphs(graphs):
    assert graphs.GRAFANA.read_text() == graphs.grafana_text(), "python loadtest/graphite_graphs.py writes it anew"


def test_colours_are_of_lines_that_there_are(graphs):
    for graph in graphs.all_graphs():
        text = " ".join(graph.targets)
        assert [name for name in graph.colors if f'"{name}"' not in text and f".{name}," not in text] == []


def test_the_flush_interval_is_the_finest_retention():
    milliseconds = int(re.search(r"\|\| (\d+)\)", statsd("flushInterval"))[1])
    finest = sample("storage-schemas.conf")["statsd"]["retentions"].split(":")[0]
    assert finest == f"{milliseconds // 1000}s"


def test_statsd_forgets_who_is_gone():
    assert (statsd("deleteGauges"), statsd("deleteCounters")) == ("true", "true")


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("stats.counters.gproxy.requests.web.count", "sum"),
        ("stats.counters.gproxy.requests.web.rate", "average"),
        ("stats.gauges.gproxy.active_connections_total", "average"),
        ("stats.gauges.gproxy.backend_health_status.app.b1", "min"),
        ("stats.gauges.gproxy.response_time.p99", "max"),
        ("stats.gauges.gproxy.hub_lag", "max"),
        ("stats.gauges.gproxy.upstream.app.backend.b1.queue", "max"),
        ("stats.gauges.gproxy.upstream.app.backend.b1.pool_idle", "average"),
    ],
)
def test_how_slots_become_one(name, method):
    sections = map(dict, map(sample("storage-aggregation.conf").items, sample("storage-aggregation.conf").sections()))
    first = next(section for section in sections if re.search(section["pattern"], name))
    assert first["aggregationmethod"] == method
