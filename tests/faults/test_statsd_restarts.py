"""The real StatsD ends, comes back, or stands still: no client notices, and what was counted meanwhile arrives."""

import os
import signal

import pytest

from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import TOP, Gproxy, wait_until_stopped

pytestmark = pytest.mark.xdist_group("graphite")

FLUSH = 2  # seconds
ARRIVE = 30.0  # seconds that a number may take to Graphite
SESSIONS = 40

CONFIG = """
load_balancer: {metrics_interval: 200ms}
statsd: {port: PORT, prefix: PREFIX}
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Graphite without StatsD."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOP / "loadtest"))
        from graphite_chain import Chain, Ports

        chain = Chain(tmp_path_factory.mktemp("graphite"), Ports.free(), FLUSH)
        with chain.graphite():
            yield chain


@pytest.fixture
def origin():
    with Origin("echo") as origin:
        yield origin


def serving(directory, chain, origin, prefix):
    config = CONFIG.replace("PORT", str(chain.ports.statsd)).replace("PREFIX", prefix)
    return Gproxy(directory, config, environ={"B1": origin.address})


def talk(proxy):
    for _ in range(SESSIONS):
        with proxy.connect("web") as client:
            client.sendall(b"word")
            assert read(client, 4) == b"word"


def wait_for_bytes(chain, prefix, count):
    name = f"stats.counters.{prefix}.bytes_transferred_total.count"
    eventually(lambda: chain.total(name) == count, ARRIVE, f"{count} bytes in Graphite")


def test_what_is_counted_while_statsd_is_away_comes_when_it_is_back(tmp_path, chain, origin):
    with serving(tmp_path, chain, origin, "restarts") as proxy:
        proxy.wait_for_log("takes no metrics")
        with chain.statsd():
            proxy.wait_for_log("takes metrics again")
            talk(proxy)
            wait_for_bytes(chain, "restarts", 8 * SESSIONS)
        before = proxy.log()
        talk(proxy)
        proxy.wait_for_log("(?s)takes metrics again.*takes no metrics: .*Connection refused")
        talk(proxy)
        with chain.statsd():
            wait_for_bytes(chain, "restarts", 3 * 8 * SESSIONS)
            assert proxy.stop() == 0
    said = proxy.log().removeprefix(before)
    assert (said.count("takes no metrics"), said.count("takes metrics again")) == (1, 1)
    assert "Traceback" not in proxy.log()
    assert len([line for line in proxy.access() if " -- " in line]) == 3 * SESSIONS


def test_a_statsd_that_stands_still_holds_nobody_up(tmp_path, chain, origin):
    with chain.statsd() as daemon, serving(tmp_path, chain, origin, "still") as proxy:
        talk(proxy)
        wait_for_bytes(chain, "still", 8 * SESSIONS)
        os.kill(daemon.pid, signal.SIGSTOP)
        wait_until_stopped(daemon.pid)
        try:
            talk(proxy)
            eventually(lambda: len(proxy.access()) == 2 * SESSIONS, what="every session has its line")
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        wait_for_bytes(chain, "still", 2 * 8 * SESSIONS)
        assert proxy.stop() == 0
        assert "takes no metrics" not in proxy.log()
        assert len([line for line in proxy.access() if " -- " in line]) == 2 * SESSIONS
