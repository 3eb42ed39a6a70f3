"""The numbers of plain exchanges, which are added to the counters late."""

from __future__ import annotations

from typing import Any

from gproxy.http.tally import AT_ONCE, PlainTally
from gproxy.metrics import MetricsCollector
from gproxy.stories import Stories
from tests.support.embedded import EmbeddedHttp, backend
from tests.support.http_peer import get, ok, read_request, read_response
from tests.support.loopback import PlayedBackend


def plain(bytes_in: int, bytes_out: int, status: int, seconds: float) -> Any:
    """What is counted of an exchange, and nothing of what is told."""
    return bytes_in, bytes_out, status, 5.0 + seconds, None, None, None, None, (5.0,)


def test_a_snapshot_has_every_exchange() -> None:
    metrics = MetricsCollector([], ["web"])
    tally = PlainTally(metrics, metrics.listener("web"), Stories())
    tally.waiting += [plain(100, 1000, 200, 0.001), plain(50, 500, 304, 0.002), plain(30, 300, 200, 0.004)]
    for _ in range(2):  # nothing is added twice
        snapshot = metrics.snapshot()
        assert snapshot.counters["bytes_in"] == 180
        assert snapshot.counters["bytes_out"] == 1800
        assert snapshot.counters["requests.web"] == 3
        assert snapshot.counters["responses.web.2xx"] == 2
        assert snapshot.counters["responses.web.3xx"] == 1
        assert sum(snapshot.histograms["response_time"]) == 3


def test_listeners_are_told_apart() -> None:
    metrics = MetricsCollector([], ["web", "api"])
    for name, count in (("web", 1), ("api", 2)):
        PlainTally(metrics, metrics.listener(name), Stories()).waiting += [plain(1, 1, 200, 0.001)] * count
    counters = metrics.snapshot().counters
    assert (counters["requests.web"], counters["requests.api"]) == (1, 2)


def test_the_counters_never_lack_more_than_some() -> None:
    with PlayedBackend() as played, EmbeddedHttp(backend(played)) as proxy:
        stats = proxy.worker.metrics.listener("web")
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        for number in range(1, AT_ONCE + 10):
            read_request(server)
            server.send(ok(b"ok", "Date: today"))  # with a Date it is plain
            read_response(client)
            assert number - AT_ONCE <= stats.requests <= number
            client.send(get())
        assert stats.requests >= AT_ONCE
