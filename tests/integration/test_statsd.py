"""What a StatsD server is told: the names of the original design, and the right values."""

import re
import socket
import threading
from collections import defaultdict

import pytest

from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
load_balancer: {metrics_interval: 100ms}
statsd: {port: PORT, prefix: lb}
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {interval: 100ms, fall: 1}
    backends: [{name: b1, address: "${B1}"}, {name: b.2, address: "${B2}", backup: true}]
"""


class Statsd:
    """A StatsD server: gauges by name as they are now, counters added up, and every datagram."""

    def __init__(self):
        self.gauges: dict[str, float] = {}
        self.counters: dict[str, float] = defaultdict(float)
        self.datagrams: list[bytes] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self):
        while datagram := self._socket.recv(65536):
            self.datagrams.append(datagram)
            for line in datagram.decode("ascii").splitlines():
                name, value, kind = re.fullmatch(r"([^:|]+):([^:|]+)\|(g|c)", line).groups()
                if kind == "g":
                    self.gauges[name] = float(value)
                else:
                    self.counters[name] += float(value)

    def wait_for(self, **gauges: float):
        eventually(lambda: gauges.items() <= self.gauges.items(), what=f"{gauges}, not {self.gauges}")

    def close(self):
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def statsd():
    statsd = Statsd()
    yield statsd
    statsd.close()


def test_the_four_names_follow_what_happens(tmp_path, statsd):
    with Origin("echo") as b1, Origin("echo") as b2:
        config = CONFIG.replace("PORT", str(statsd.port))
        with Gproxy(tmp_path, config, environ={"B1": b1.address, "B2": b2.address}) as proxy:
            both_up = {"lb.backend_health_status.app.b1": 1, "lb.backend_health_status.app.b_2": 1}
            idle = {"lb.active_connections_total": 0, "lb.connections_per_backend.app.b1": 0}
            statsd.wait_for(**both_up, **idle)

            with proxy.connect("web") as client, proxy.connect("web"):
                client.sendall(bytes(70_000))
                assert len(read(client, 70_000)) == 70_000
                statsd.wait_for(**{
                    "lb.active_connections_total": 2,
                    "lb.connections_per_backend.app.b1": 2,
                    "lb.connections_per_backend.app.b_2": 0,
                })  # fmt: skip
                eventually(lambda: statsd.counters["lb.bytes_transferred_total"] == 140_000)
            statsd.wait_for(**idle)

            b1.kill()
            statsd.wait_for(**(both_up | {"lb.backend_health_status.app.b1": 0}))
            b1.start()
            statsd.wait_for(**both_up)
        assert proxy.process.poll() is not None
    counters = statsd.counters
    assert (counters["lb.bytes_in"], counters["lb.bytes_out"]) == (70_000, 70_000)
    assert (counters["lb.connections_accepted"], counters["lb.sessions_closed.normal"]) == (2, 2)
    assert max(map(len, statsd.datagrams)) <= 1432


def test_the_last_push_comes_with_the_shutdown(tmp_path, statsd):
    with Origin("echo") as b1, Origin("echo") as b2:
        config = CONFIG.replace("PORT", str(statsd.port)).replace("100ms}\nstatsd", "1h}\nstatsd")
        with Gproxy(tmp_path, config, environ={"B1": b1.address, "B2": b2.address}) as proxy:
            with proxy.connect("web") as client:
                client.sendall(b"word")
                assert read(client, 4) == b"word"
            proxy.stop()
            eventually(lambda: statsd.counters["lb.bytes_transferred_total"] == 8)
