"""A real Prometheus scrapes a gproxy of two workers."""

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from tests.support.admin import Admin
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
workers: 2
admin: {bind: "127.0.0.1:0", token: 0123456789abcdef}
log: {access: off}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""
SCRAPE = """
scrape_configs:
  - job_name: gproxy
    scrape_interval: 100ms
    scrape_timeout: 100ms
    authorization: {{credentials: 0123456789abcdef}}
    static_configs: [{{targets: ["{}:{}"]}}]
"""


class Prometheus:
    def __init__(self, directory, target):
        (directory / "prometheus.yml").write_text(SCRAPE.format(*target))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                   f"--web.listen-address={self._address}"]  # fmt: skip
        with open(directory / "prometheus.log", "wb") as log:
            self._process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)

    def value(self, query):
        """Of a query with one result; None where there is none."""
        url = f"http://{self._address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                found = json.load(reply)["data"]["result"]
        except (urllib.error.URLError, ConnectionError):
            return None  # it starts
        return float(found[0]["value"][1]) if found else None

    def stop(self):
        self._process.kill()
        self._process.wait()


def test_what_it_knows_is_what_happened(tmp_path):
    with Origin("http", "one") as origin, Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        prometheus = Prometheus(tmp_path, Admin(proxy, "0123456789abcdef").address)
        try:
            host, port = proxy.address("web")
            for _ in range(5):
                urllib.request.urlopen(f"http://{host}:{port}/", timeout=10).close()

            def eventually_is(query, value):
                eventually(lambda: prometheus.value(query) == value, 20, what=f"{query} is {value}")

            eventually_is("up", 1)
            eventually_is('gproxy_http_responses_total{listener="web",class="2xx"}', 5)
            eventually_is('gproxy_backend_up{upstream="app",backend="b1"}', 1)
            eventually_is("gproxy_http_response_duration_seconds_count", 5)
            eventually_is("histogram_quantile(1, gproxy_http_response_duration_seconds_bucket) < bool 60", 1)
            eventually_is("count(gproxy_info)", 1)
        finally:
            prometheus.stop()
