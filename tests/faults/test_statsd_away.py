"""StatsD is not there: no session notices, and the log says it once."""

import socket
import time

import pytest

from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
load_balancer: {metrics_interval: 50ms}
statsd: {HOST}
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""


def talk(proxy: Gproxy) -> float:
    """How long that took, in seconds."""
    began = time.monotonic()
    with proxy.connect("web") as client:
        client.sendall(b"word")
        assert read(client, 4) == b"word"
    return time.monotonic() - began


@pytest.mark.fault("StatsD is gone")
def test_a_closed_port_is_said_once_and_its_return_too(tmp_path, reliability_row):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        port = statsd.getsockname()[1]
    with Origin("echo") as origin:
        config = CONFIG.replace("HOST", f"port: {port}")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            proxy.wait_for_log(f"statsd at 127.0.0.1:{port} takes no metrics: .*Connection refused")
            slowest = max(talk(proxy) for _ in range(50))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
                statsd.bind(("127.0.0.1", port))
                statsd.settimeout(10)
                proxy.wait_for_log("takes metrics again")
                assert b"gproxy." in statsd.recv(2000)
                assert proxy.stop() == 0
            assert proxy.log().count("takes no metrics") == 1
            assert "Traceback" not in proxy.log()
            eventually(lambda: len(proxy.access()) == 50)
    reliability_row(
        sees="nothing",
        took=slowest,
        others="nobody",
        heals="what was counted meanwhile is told when it takes metrics again; the log says both, once",
    )


def test_a_host_that_does_not_exist(tmp_path):
    with Origin("echo") as origin:
        config = CONFIG.replace("HOST", "host: no-such-host.invalid")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            proxy.wait_for_log("statsd at no-such-host.invalid:8125 takes no metrics: ")
            talk(proxy)
            assert proxy.stop() == 0
            assert proxy.log().count("takes no metrics") == 1
