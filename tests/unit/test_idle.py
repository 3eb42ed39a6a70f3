"""Idle http clients where places are short: who goes, who stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.embedded import Embedded, EmbeddedHttp, backend
from tests.support.http_peer import get, nothing_left, ok, read_head, read_response
from tests.support.loopback import End, Peer, PlayedBackend
from tests.support.poll import eventually, let_the_hub_run


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


class Full(EmbeddedHttp):
    """An http listener for so many clients. The clock is the test's, and so are the sweeps."""

    def __init__(self, played: PlayedBackend, places: int, **named: Any):
        self.clock = FakeClock()
        self._played = played
        self._server: Peer | None = None
        named.setdefault("listener", f"max_connections: {places}")
        super().__init__(backend(played), clock=self.clock, **named)
        self.worker.timeouts.interval = 3600.0

    def serve(self, client: Peer) -> None:
        """One request and its response."""
        client.send(get("/"))
        if self._server is None:
            self._server = self._played.accept()
        read_head(self._server)
        self._server.send(ok())
        assert read_response(client).status == 200

    def idle_client(self, listener: str = "web") -> Peer:
        """One that has been served, and was seen idle."""
        client = self.connect(listener)
        self.serve(client)
        eventually(lambda: "between" in " ".join(map(repr, self.sessions)))
        self.sweep()
        return client

    def idle_for(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.sweep()

    @property
    def dismissed(self) -> int:
        return sum(service.stats.idle_closed for service in self.worker.services)


def is_open(client: Peer) -> bool:
    """Neither ended nor told anything."""
    client.sock.settimeout(0.0)
    try:
        client.sock.recv(1)
        return False
    except BlockingIOError:
        return True
    finally:
        client.sock.settimeout(10.0)


def test_who_wants_service_gets_the_place_of_who_wants_none(played: PlayedBackend) -> None:
    with Full(played, 1) as proxy:
        resting = proxy.idle_client()
        proxy.idle_for(1.0)
        proxy.serve(proxy.connect())
        assert resting.rest() == (b"", End.FIN)
        assert proxy.dismissed == 1


def test_idle_longest_goes_first(played: PlayedBackend) -> None:
    with Full(played, 5) as proxy:
        clients = []
        for _ in range(3):
            clients.append(proxy.idle_client())
            proxy.idle_for(1.0)
        proxy.serve(clients[0])  # no longer the one who is idle longest
        proxy.idle_for(2.0)
        proxy.idle_for(2.0)
        proxy.serve(proxy.connect())
        assert clients[1].rest() == (b"", End.FIN)
        assert [is_open(client) for client in (clients[0], clients[2])] == [True, True]
        assert proxy.dismissed == 1


def test_they_go_before_the_limit_is_reached_a_twentieth_of_it_at_a_time(played: PlayedBackend) -> None:
    with Full(played, 40) as proxy:
        clients = [proxy.idle_client() for _ in range(38)]
        proxy.idle_for(1.0)
        assert proxy.dismissed == 0
        proxy.serve(proxy.connect())  # 38 of 40 are there when it comes
        assert proxy.dismissed == 2
        assert sum(is_open(client) for client in clients) == 36


def test_nobody_goes_who_has_just_been_served(played: PlayedBackend) -> None:
    with Full(played, 1) as proxy:
        client = proxy.idle_client()
        proxy.idle_for(0.9)
        waiting = proxy.connect()
        let_the_hub_run()
        assert is_open(client)
        proxy.idle_for(0.5)
        proxy.serve(waiting)  # found without anybody's end or coming: it looked again
        assert client.rest() == (b"", End.FIN)


def test_nobody_goes_who_was_served_since_the_last_sweep(played: PlayedBackend) -> None:
    with Full(played, 1) as proxy:
        client = proxy.idle_client()
        proxy.idle_for(5.0)
        proxy.serve(client)
        assert proxy.service.server.full()
        assert is_open(client)
        assert proxy.dismissed == 0


def test_nobody_goes_whose_request_has_begun(played: PlayedBackend) -> None:
    with Full(played, 1) as proxy:
        client = proxy.idle_client()
        client.send(get("/half")[:-1])
        eventually(lambda: "head" in repr(proxy.sessions))
        proxy.sweep()
        proxy.idle_for(5.0)
        assert proxy.service.server.full()
        let_the_hub_run()
        assert is_open(client)
        assert proxy.dismissed == 0


def test_nobody_goes_whose_request_lies_in_the_kernel_yet(played: PlayedBackend) -> None:
    with Full(played, 1) as proxy:
        client = proxy.idle_client()
        proxy.idle_for(5.0)
        client.send(get("/"))  # nothing here lets the hub run
        (session,) = proxy.sessions
        assert not session.dismiss()
        assert proxy.dismissed == 0


def test_nobody_goes_who_waits_for_a_response(played: PlayedBackend) -> None:
    with Full(played, 1) as proxy:
        client = proxy.connect()
        client.send(get("/"))
        server = played.accept()
        read_head(server)
        proxy.sweep()
        proxy.idle_for(5.0)
        assert proxy.service.server.full()
        let_the_hub_run()
        server.send(ok(b"late"))
        assert read_response(client).body == b"late"
        assert proxy.dismissed == 0


def test_who_connected_and_sent_nothing_goes_too(played: PlayedBackend) -> None:
    with Full(played, 1) as proxy:
        silent = proxy.connect()
        eventually(lambda: proxy.sessions)
        proxy.sweep()
        proxy.idle_for(1.0)
        proxy.serve(proxy.connect())
        assert silent.rest() == (b"", End.FIN)
        assert proxy.dismissed == 1
        assert [record.status for record in proxy.ended()] == [200]


def test_a_client_that_is_about_to_go_is_not_counted_for_another(played: PlayedBackend) -> None:
    """It has a greenlet, which ends it a moment later."""
    with Full(played, 2) as proxy:
        for _ in range(2):
            proxy.connect()
        eventually(lambda: len(proxy.sessions) == 2)
        proxy.idle_for(1.0)
        first, second = proxy.sessions
        assert first.dismiss()
        assert second.idle_since() is not None
        assert first.idle_since() is None


def test_clients_of_tcp_stay(played: PlayedBackend) -> None:
    clock = FakeClock()
    also = "{name: side, mode: http, bind: '127.0.0.1:0', upstream: web}"
    further = "web: {health_check: {type: none}, backends: ['127.0.0.1:1']}"
    with Embedded(backend(played), root="max_connections: 1", also=also, further=further, clock=clock) as proxy:
        client = proxy.connect()
        played.accept()
        proxy.pass_time(clock, 30.0)
        assert proxy.service.server.full()
        let_the_hub_run()
        assert is_open(client)


def test_near_the_limit_of_all_idle_clients_of_any_listener_go(played: PlayedBackend) -> None:
    with PlayedBackend() as other:
        also = "{name: db, bind: '127.0.0.1:0', upstream: db}"
        further = f"db: {{health_check: {{type: none}}, backends: ['{other.address}']}}"
        with Full(played, 1, listener="", root="max_connections: 1", also=also, further=further) as proxy:
            resting = proxy.idle_client()
            proxy.idle_for(1.0)
            client = proxy.connect("db")
            client.send(b"word")
            assert other.accept().receive(4) == b"word"
            assert resting.rest() == (b"", End.FIN)


def test_a_listener_s_limit_costs_no_client_of_another_its_place(played: PlayedBackend) -> None:
    also = "{name: side, mode: http, bind: '127.0.0.1:0', upstream: app, max_connections: 1}"
    with Full(played, 100, also=also) as proxy:
        resting = proxy.idle_client("web")
        proxy.idle_for(1.0)
        proxy.connect("side")
        proxy.connect("side")
        let_the_hub_run()
        assert is_open(resting)


def test_a_look_that_found_nobody_is_not_repeated_at_once(played: PlayedBackend) -> None:
    """It costs time for every session."""
    with Full(played, 1) as proxy:
        proxy.idle_client()
        close_idle = proxy.service.server.limit._relieve
        found = [close_idle(1) for step in (0.9, 0.2, 0.1) if proxy.clock.advance(step)]
        assert found == [0, 0, 1]  # after 0.9 s nobody; after 1.1 s nobody looks
