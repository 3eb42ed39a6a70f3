"""What an http listener answers in a backend's place, and how it words that."""

from __future__ import annotations

import json
from _socket import socket as Socket
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from gproxy.core.termination import Ended
from gproxy.errors import DialError, DialFailure
from gproxy.net.connection import Endpoint
from gproxy.net.dial import dial
from tests.support.embedded import EmbeddedHttp, backend
from tests.support.http_peer import (
    borrowed,
    get,
    idle,
    nothing_left,
    ok,
    post,
    read_head,
    read_request,
    read_response,
    request,
)
from tests.support.loopback import End, Peer, PlayedBackend
from tests.support.poll import eventually

GONE = backend("127.0.0.1:1")  # nobody listens there


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


# --- bad requests -------------------------------------------------------------------------


BAD = [
    (400, b"GET /\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    (400, b"\x16\x03\x01\x02\x00\x01"),  # TLS
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"),
    (400, b"GET path HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (414, b"GET /" + b"a" * 8192),
    (414, b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    (417, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: x\r\n\r\n"),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 65536),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 128 + b"\r\n"),
    (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
]


@pytest.mark.parametrize(
    ("status", "what"), BAD, ids=lambda value: value if isinstance(value, int) else repr(value[:50])
)
def test_a_bad_request_is_answered_and_the_connection_ends(played: PlayedBackend, status: int, what: bytes) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(what + get("/never") if what.endswith(b"\r\n\r\n") else what)
        got = read_response(client)
        assert (got.status, got.get("Connection")) == (status, b"close")
        assert client.rest() == (b"", End.FIN)
        (record,) = proxy.ended()
        assert (record.code, record.status, record.backend, record.upstream) == ("PR", status, "", "")
        assert proxy.closed() == {"PR": 1}
        assert not played.waiting()


def test_a_bad_request_behind_a_good_one(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get() + b"\0")
        server = played.accept()
        read_head(server)
        server.send(ok())
        assert read_response(client).status == 200
        assert read_response(client).status == 400
        assert proxy.codes(2) == ["--", "PR"]
        assert idle(proxy) == 1


def test_the_client_can_read_its_refusal_though_it_sends_on(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(b"\0")
        proxy.ended()
        for _ in range(5):
            client.send(bytes(20_000))
            gevent.sleep(0)
        assert read_response(client).status == 400
        assert client.rest() == (b"", End.FIN)


# --- the words ---------------------------------------------------------------------------------


def refused(proxy: EmbeddedHttp, *lines: str, method: str = "GET") -> tuple[Peer, object]:
    client = proxy.connect()
    client.send(request(method, "/", "X-Request-ID: the-id", *lines))
    return client, read_response(client, method)


def test_an_answer_of_our_own_in_text() -> None:
    with EmbeddedHttp(GONE) as proxy:
        _, got = refused(proxy)
        assert got.head.start == b"HTTP/1.1 503 Service Unavailable"
        assert got.get("Content-Type") == b"text/plain; charset=utf-8"
        assert got.get("X-Request-ID") == b"the-id"
        assert got.get("Cache-Control") == b"no-store"
        assert got.get("Date")
        assert got.body == b"503 Service Unavailable: no backend can serve this\nrequest id: the-id\n"
        (record,) = proxy.ended()
        assert (record.request_id, record.bytes_out) == (b"the-id", got.head.size + len(got.body))


def test_an_answer_of_our_own_in_json() -> None:
    with EmbeddedHttp(GONE) as proxy:
        _, got = refused(proxy, "Accept: application/json")
        assert got.get("Content-Type") == b"application/json"
        said = json.loads(got.body)
        assert (said["status"], said["error"], said["request_id"]) == (503, "Service Unavailable", "the-id")


def test_an_answer_to_head_has_no_body() -> None:
    with EmbeddedHttp(GONE) as proxy:
        client, got = refused(proxy, method="HEAD")
        assert got.status == 503
        assert client.rest() == (b"", End.FIN)


def test_an_operator_s_own_words(tmp_path: Path) -> None:
    page = tmp_path / "sorry.html"
    page.write_bytes(b"<h1>Sorry</h1>")
    with EmbeddedHttp(GONE, listener=f'error_files: {{503: "{page}"}}') as proxy:
        _, got = refused(proxy, "Accept: application/json")
        assert (got.status, got.get("Content-Type"), got.body) == (503, b"text/html; charset=utf-8", b"<h1>Sorry</h1>")
        assert got.get("X-Request-ID") == b"the-id"


def test_a_request_without_an_id_gets_one() -> None:
    with EmbeddedHttp(GONE) as proxy:
        client = proxy.connect()
        client.send(get())
        got = read_response(client)
        (record,) = proxy.ended()
        assert got.get("X-Request-ID") == record.request_id
        assert got.body.endswith(b"request id: " + record.request_id + b"\n")


# --- nobody can serve ---------------------------------------------------------------------------------


def test_503_tells_when_to_come_again() -> None:
    with EmbeddedHttp(GONE, upstream="retry_after: 7s") as proxy:
        client, got = refused(proxy)
        assert (got.status, got.get("Retry-After")) == (503, b"7")
        assert client.rest() == (b"", End.FIN)
        (record,) = proxy.ended()
        assert (record.code, record.status, record.tc, record.tresp, record.reused) == ("SC", 503, None, None, None)


@pytest.mark.parametrize(("all_down", "end"), [("reset", End.RESET), ("close", End.FIN)])
def test_all_down_can_be_told_without_words(all_down: str, end: End) -> None:
    with EmbeddedHttp(GONE, upstream=f"all_down: {all_down}") as proxy:
        client = proxy.connect()
        client.send(get())
        assert client.rest() == (b"", end)
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("SC", 0)
        assert proxy.closed() == {"SC": 1}


def test_nobody_is_eligible(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        (one,) = proxy.backends
        one.endpoints = ()
        proxy.worker.upstreams["app"].changed(one)
        _, got = refused(proxy)
        assert got.status == 503
        (record,) = proxy.ended()
        assert (record.code, record.backend, record.tw, record.upstream) == ("SC", "", None, "app")


def test_dials_that_time_out() -> None:
    def late(_endpoint: Endpoint, _timeout: float) -> Socket:
        raise DialError(DialFailure.TIMEOUT, "too late")

    with EmbeddedHttp(GONE, dial=late) as proxy:
        _, got = refused(proxy)
        assert (got.status, got.get("Retry-After")) == (503, b"5")
        assert proxy.codes() == ["sC"]


def test_a_dial_has_the_time_that_its_listener_or_its_upstream_gives_it() -> None:
    given = []

    def late(_endpoint: Endpoint, timeout: float) -> Socket:
        given.append(timeout)
        raise DialError(DialFailure.TIMEOUT, "too late")

    with EmbeddedHttp(GONE, upstream="backend_connect_timeout: 3", dial=late) as proxy:
        refused(proxy)
    with EmbeddedHttp(
        GONE, upstream="backend_connect_timeout: 3", listener="backend_connect_timeout: 2", dial=late
    ) as p:
        refused(p)
    assert given == [3.0, 2.0]


def test_no_slot_comes_free_in_time(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 1"), upstream="queue_timeout: 10ms") as proxy:
        first = proxy.connect()
        first.send(get())
        server = played.accept()
        read_head(server)
        _, got = refused(proxy)
        assert got.status == 503
        (record,) = proxy.ended()
        assert (record.code, record.tw, record.status) == ("sQ", None, 503)
        server.send(ok())
        assert read_response(first).status == 200


def test_requests_wait_for_a_slot_in_order(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 1")) as proxy:
        clients = [proxy.connect() for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(get(f"/{number}"))
            eventually(lambda: sum(s.exchange is not None for s in proxy.sessions) == number + 1)  # noqa: B023
        server = played.accept()
        for number, client in enumerate(clients):
            assert read_head(server).target == b"/%d" % number
            server.send(ok())
            assert read_response(client).status == 200
        assert not played.waiting()


# --- clients that leave ----------------------------------------------------------------------------------


def queued(proxy: EmbeddedHttp, played: PlayedBackend) -> tuple[Peer, Peer, Peer]:
    """A client that is served, its backend, and a client that waits for their slot."""
    first = proxy.connect()
    first.send(get("/first"))
    server = played.accept()
    read_head(server)
    second = proxy.connect()
    second.send(get("/second"))
    eventually(lambda: len(proxy.worker.upstreams["app"].queue) == 1)
    return first, server, second


def test_a_client_that_resets_while_it_waits_for_a_slot(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 1")) as proxy:
        first, server, second = queued(proxy, played)
        second.reset()
        eventually(lambda: len(proxy.worker.upstreams["app"].queue) == 0)
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("CQ", 0)
        server.send(ok())
        assert read_response(first).status == 200
        assert borrowed(proxy) == 0


def test_a_session_killed_in_the_queue(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 1")) as proxy:
        _, _, second = queued(proxy, played)
        (waiting,) = [session for session in proxy.sessions if session.waiting]
        waiting.end(Ended.KILLED)
        assert read_response(second).status == 503
        assert proxy.codes() == ["KQ"]


class Slow:
    """A dial that waits until it is told how to go on."""

    def __init__(self) -> None:
        self.go_on = Event()
        self.dialled = 0

    def __call__(self, endpoint: Endpoint, timeout: float) -> Socket:
        self.dialled += 1
        self.go_on.wait()
        return dial(endpoint, timeout)


def test_a_client_that_resets_while_its_backend_is_dialled(played: PlayedBackend) -> None:
    slow = Slow()
    with EmbeddedHttp(backend(played), dial=slow) as proxy:
        client = proxy.connect()
        client.send(get())
        eventually(lambda: slow.dialled)
        client.reset()
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("CH", 0)
        assert borrowed(proxy) == 0
        assert proxy.backends[0].stats.connect_failures == 0


def test_a_session_killed_while_it_dials(played: PlayedBackend) -> None:
    slow = Slow()
    with EmbeddedHttp(backend(played), dial=slow) as proxy:
        client = proxy.connect()
        client.send(get())
        eventually(lambda: slow.dialled)
        proxy.sessions[0].end(Ended.KILLED)
        assert read_response(client).status == 503
        assert proxy.codes() == ["KC"]
        assert borrowed(proxy) == 0


def test_a_client_that_resets_while_its_backend_works(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="passive_health: {server_errors: 1}") as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        client.reset()
        assert server.rest()[0] == b""
        (record,) = proxy.ended()
        assert (record.code, record.status, record.retries) == ("CH", 0, 0)
        assert borrowed(proxy) == idle(proxy) == 0
        assert (proxy.backends[0].stats.ejections, proxy.backends[0].stats.connect_failures) == (0, 0)


@pytest.mark.parametrize("while_it", ["reads", "does not read"])
def test_a_client_that_resets_amid_its_response(played: PlayedBackend, while_it: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok(bytes(50_000_000))[:-49_999_000])
        read_head(client)
        if while_it == "does not read":
            sending = gevent.spawn(server.send, bytes(40_000_000))
            eventually(lambda: proxy.sessions[0].client.wants_room)
        else:
            client.receive(1000)
        client.reset()
        if while_it == "does not read":
            with pytest.raises(OSError):  # noqa: PT011
                sending.get()
        else:
            server.rest()
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("CD", 200)
        assert borrowed(proxy) == idle(proxy) == 0


# --- backends that fail ------------------------------------------------------------------------------------


def test_a_backend_that_ends_without_a_response(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(post(b"x"))
        server = played.accept()
        read_request(server)
        server.close()
        got = read_response(client)
        assert got.head.start == b"HTTP/1.1 502 Bad Gateway"
        assert got.get("Retry-After") is None
        (record,) = proxy.ended()
        assert (record.code, record.status, record.tresp) == ("SH", 502, None)


def test_sessions_of_a_backend_that_goes_down_are_ended_if_that_is_wanted(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="down_action: close_sessions") as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        (one,) = proxy.backends
        one.health.observe(False, 1, 1)
        one.upstream.flipped(one, "check failed")
        assert read_response(client).status == 502
        assert proxy.codes() == ["DD"]
        assert server.rest()[0] == b""


def test_a_defect_ends_its_session_only_and_is_seen(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    with EmbeddedHttp(backend(played, "max_connections: 1")) as proxy:
        with monkeypatch.context() as patch:
            patch.setattr("gproxy.http.context.ResponseBlock", broken)
            client = proxy.connect()
            client.send(get())
            server = played.accept()
            read_head(server)
            server.send(ok())
            assert client.rest() == (b"", End.RESET)
        assert proxy.codes() == ["IC"]
        assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]
        assert borrowed(proxy) == idle(proxy) == 0
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok())
        assert read_response(client).status == 200
