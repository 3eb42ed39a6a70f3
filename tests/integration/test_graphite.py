"""The whole way of a number: gproxy, the StatsD daemon, carbon, and what graphite-web's /render answers."""

import http.client
import json
from contextlib import closing
from urllib.request import urlopen

import pytest

from tests.support.ends import TIMEOUT
from tests.support.poll import eventually
from tests.support.proxy import TOP, Gproxy
from tests.support.web_servers import Nginx

pytestmark = pytest.mark.xdist_group("graphite")

FLUSH = 2  # seconds
ARRIVE = 30.0  # seconds that a number may take to Graphite
REQUESTS = 250
PNG = b"\x89PNG\r\n"

CONFIG = """
load_balancer: {metrics_interval: 500ms}
statsd: {port: PORT, prefix: PREFIX}
listeners: [{name: "web:1", bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {backends: ["${B1}"]}}
log: {format: json}
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOP / "loadtest"))
        from graphite_chain import started

        with started(tmp_path_factory.mktemp("graphite"), FLUSH) as chain:
            yield chain


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Nginx(tmp_path_factory.mktemp("site")) as server:
        yield server


def serving(directory, chain, site, prefix):
    config = CONFIG.replace("PORT", str(chain.ports.statsd)).replace("PREFIX", prefix)
    return Gproxy(directory, config, environ={"B1": site.address})


def ask(proxy, times):
    """One after another, over one connection."""
    with closing(http.client.HTTPConnection(*proxy.address("web:1"), timeout=TIMEOUT)) as client:
        for _ in range(times):
            client.request("GET", "/status")
            response = client.getresponse()
            assert (response.status, len(response.read()) > 0) == (200, True)


def test_every_request_is_in_graphite_once(tmp_path, chain, site):
    def counted(name):
        return chain.total(f"stats.counters.exact.lb.{name}.count")

    with serving(tmp_path, chain, site, "exact.lb") as proxy:
        ask(proxy, REQUESTS)
        eventually(lambda: counted("requests.web_1") == REQUESTS, ARRIVE, "the first load")
        ask(proxy, REQUESTS)
        eventually(lambda: counted("requests.web_1") == 2 * REQUESTS, ARRIVE, "the second load")
        ask(proxy, REQUESTS)
        assert proxy.stop() == 0
    eventually(lambda: counted("requests.web_1") == 3 * REQUESTS, ARRIVE, "the last push, at the stop")
    lines = [json.loads(line) for line in proxy.access()]
    assert len(lines) == 3 * REQUESTS
    backend = f"upstream.app.backend.{site.address.replace('.', '_').replace(':', '_')}"
    expected = {
        "responses.web_1.2xx": 3 * REQUESTS,
        "responses.web_1.*": 3 * REQUESTS,
        f"{backend}.{{connects,reuses}}": 3 * REQUESTS,
        "connections_accepted": 3,
        "sessions_closed.normal": 3,
        "bytes_in": sum(line["bytes_in"] for line in lines),
        "bytes_out": sum(line["bytes_out"] for line in lines),
    }
    # Not at once: a value that carbon is about to write may for a moment be neither in its memory nor in the file.
    eventually(lambda: {name: counted(name) for name in expected} == expected, ARRIVE, f"{expected}")
    assert chain.total("stats.counters.statsd.bad_lines_seen.count") == 0


def test_the_gauges_of_a_proxy_that_is_gone_end(tmp_path, chain, site):
    gauge, statsd = "stats.gauges.gone.active_connections_total", "stats.statsd.numStats"

    def times(name):
        return [when for value, when in chain.points(name).get(name, []) if value is not None]

    def told():
        """How many of StatsD's last three flushes had it. What they are is asked first: the gauge is no older."""
        flushes = times(statsd)[-3:]
        return len(set(times(gauge)).intersection(flushes)) if len(flushes) == 3 else None

    with serving(tmp_path, chain, site, "gone") as proxy:
        eventually(told, ARRIVE, "its gauges begin")
        assert proxy.stop() == 0
    eventually(lambda: told() == 0, ARRIVE, "its gauges end")


def test_every_graph_shows_something_under_short_names(tmp_path, chain, site):
    from graphite_graphs import all_graphs

    with serving(tmp_path, chain, site, "shown") as proxy:
        ask(proxy, 10)
        eventually(lambda: chain.total("stats.counters.shown.requests.*.count") == 10, ARRIVE)
        eventually(lambda: chain.points("stats.gauges.shown.session_time.p50"), ARRIVE)
        for graph in all_graphs():
            for target in graph.targets:
                found = chain.points(target.replace("$prefix", "shown"))
                assert any(value is not None for points in found.values() for value, _ in points), target
                assert not any("stats" in line or "(" in line for line in found), "names that nobody wants to read"
            with urlopen(f"{chain.url}/render?{graph.picture('shown', 10)}", timeout=TIMEOUT) as answer:
                assert answer.read().startswith(PNG), graph.title
