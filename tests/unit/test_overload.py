"""More clients than there may be, in process: who waits, who is turned away, and who is counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gproxy.metrics import ListenerStats, Slot
from tests.support.embedded import Embedded, EmbeddedHttp, backend
from tests.support.http_peer import get, nothing_left, ok, read_head, read_response
from tests.support.loopback import End, Peer, PlayedBackend
from tests.support.poll import eventually, let_the_hub_run


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def served(played: PlayedBackend, client: Peer) -> Peer:
    """A tcp client that has got through, and its connection at the backend."""
    client.send(b"word")
    server = played.accept()
    assert server.receive(4) == b"word"
    return server


def gauges(proxy: Embedded) -> dict[str, float]:
    return proxy.worker.metrics.snapshot().gauges


def counters(proxy: Embedded) -> dict[str, int]:
    return proxy.worker.metrics.snapshot().counters


# --- waiting ---------------------------------------------------------------------------------


def test_one_client_too_many_waits_until_another_leaves(played: PlayedBackend) -> None:
    with Embedded(backend(played), listener="max_connections: 1") as proxy:
        first, second = proxy.connect(), proxy.connect()
        served(played, first)
        second.send(b"word")
        let_the_hub_run()
        assert not played.waiting()
        first.reset()
        assert played.accept().receive(4) == b"word"
        assert counters(proxy)["connections_rejected.web"] == 0


def test_the_limit_of_all_listeners_together(played: PlayedBackend) -> None:
    also = "{name: db, bind: '127.0.0.1:0', upstream: app}"
    with Embedded(backend(played), root="max_connections: 1", also=also) as proxy:
        first = proxy.connect("web")
        served(played, first)
        second = proxy.connect("db")
        second.send(b"word")
        let_the_hub_run()
        assert not played.waiting()
        first.reset()
        assert played.accept().receive(4) == b"word"


def test_open_sessions_are_shown_of_each_listener_and_of_all(played: PlayedBackend) -> None:
    also = "{name: db, bind: '127.0.0.1:0', upstream: app}"
    with Embedded(backend(played), also=also) as proxy:
        first = proxy.connect("web")
        served(played, first)
        for _ in range(2):
            served(played, proxy.connect("db"))
        now = gauges(proxy)
        names = ("active_connections.web", "active_connections.db", "active_connections_total")
        assert [now[name] for name in names] == [1, 2, 3]
        first.reset()
        eventually(lambda: gauges(proxy)["active_connections_total"] == 2)
        assert gauges(proxy)["active_connections.web"] == 0


# --- other processes ---------------------------------------------------------------------------


class Others:
    """What the other processes' rows hold."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.asked: set[int] = set()

    def __call__(self, slot: int) -> int:
        self.asked.add(slot)
        return self.rows.get(slot, 0)


def active_slot(proxy: Embedded) -> int:
    return int(proxy.service.stats.base) + ListenerStats.ACTIVE


def test_a_listener_s_sessions_elsewhere_take_its_places(played: PlayedBackend) -> None:
    others = Others()
    with Embedded(backend(played), listener="max_connections: 2", elsewhere=others) as proxy:
        others.rows[active_slot(proxy)] = 2
        client = proxy.connect()
        client.send(b"word")
        let_the_hub_run()
        assert proxy.sessions == []
        others.rows[active_slot(proxy)] = 1
        assert played.accept().receive(4) == b"word"
        assert others.asked == {active_slot(proxy)}  # without a limit of all, nobody asks about that


def test_sessions_of_any_listener_elsewhere_take_places_of_all(played: PlayedBackend) -> None:
    others = Others()
    others.rows[Slot.ACTIVE] = 5
    with Embedded(backend(played), root="max_connections: 5", elsewhere=others) as proxy:
        client = proxy.connect()
        client.send(b"word")
        let_the_hub_run()
        assert proxy.sessions == []
        others.rows[Slot.ACTIVE] = 4
        assert played.accept().receive(4) == b"word"


def test_rejecting_counts_sessions_elsewhere_too(played: PlayedBackend) -> None:
    others = Others()
    with Embedded(backend(played), listener="max_connections: 2, on_overload: reject", elsewhere=others) as proxy:
        others.rows[active_slot(proxy)] = 2
        assert proxy.connect().rest() == (b"", End.RESET)
        others.rows[active_slot(proxy)] = 1
        served(played, proxy.connect())


# --- rejecting ---------------------------------------------------------------------------------


def test_a_tcp_client_too_many_is_reset_and_the_others_stay(played: PlayedBackend) -> None:
    with Embedded(backend(played), listener="max_connections: 1, on_overload: reject") as proxy:
        first = proxy.connect()
        server = served(played, first)
        for _ in range(3):
            assert proxy.connect().rest() == (b"", End.RESET)
        counted = counters(proxy)
        assert (counted["connections_rejected.web"], counted["connections_accepted"]) == (3, 1)
        server.send(b"answer")
        assert first.receive(6) == b"answer"
        first.reset()
        eventually(lambda: not proxy.sessions)
        served(played, proxy.connect())


def test_an_http_client_too_many_is_told_so(played: PlayedBackend) -> None:
    keys = "max_connections: 1, on_overload: reject"
    with EmbeddedHttp(backend(played), listener=keys, upstream="retry_after: 7") as proxy:
        first = proxy.connect()
        first.send(get("/slow"))
        server = played.accept()
        read_head(server)
        second = proxy.connect()
        second.send(get("/"))
        told = read_response(second)
        assert told.head.start == b"HTTP/1.1 503 Service Unavailable"
        assert (told.get("Retry-After"), told.get("Connection")) == (b"7", b"close")
        assert told.body.startswith(b"503 Service Unavailable: the proxy has as many connections as it may\n")
        assert second.rest() == (b"", End.FIN)
        server.send(ok(b"done"))
        assert read_response(first).body == b"done"


def test_a_rejected_http_client_is_counted_and_logged(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="max_connections: 1, on_overload: reject") as proxy:
        first = proxy.connect()
        first.send(get("/")[:-1])
        eventually(lambda: proxy.sessions)
        second = proxy.connect()
        second.send(get("/"))
        told = read_response(second)
        (record,) = proxy.ended()
        assert (record.code, record.status, record.listener, record.method) == ("RR", 503, "web", b"")
        assert record.client == "{}:{}".format(*second.sock.getsockname())
        assert record.request_id == told.get("X-Request-ID")
        assert record.bytes_out == told.head.size + len(told.body)
        assert (record.active, record.listener_active) == (1, 1)
        counted = counters(proxy)
        names = ("connections_rejected.web", "requests.web", "responses.web.5xx", "connections_accepted")
        assert [counted[name] for name in names] == [1, 1, 1, 1]


def test_stopping_tells_those_who_have_sent_nothing_yet(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="max_connections: 1, on_overload: reject") as proxy:
        first, second = proxy.connect(), proxy.connect()
        eventually(lambda: counters(proxy)["connections_rejected.web"] == 1)
        proxy.worker.stop()
        assert read_response(second).status == 503
        first.close()
