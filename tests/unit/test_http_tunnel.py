"""Upgraded connections of an http listener, in process."""

from __future__ import annotations

import socket
from _socket import socket as Socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gproxy.core.termination import Ended
from gproxy.net.connection import Endpoint
from gproxy.net.dial import dial
from tests.support.clock import FakeClock
from tests.support.embedded import EmbeddedHttp, backend
from tests.support.http_peer import (
    borrowed,
    get,
    idle,
    nothing_left,
    ok,
    post,
    read_head,
    read_response,
    response,
    serve,
)
from tests.support.loopback import End, Peer, PlayedBackend
from tests.support.poll import eventually

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
ASKED = get("/chat", *UPGRADE, "Sec-WebSocket-Key: x")
SWITCHED = response("101 Switching Protocols", *UPGRADE, "Sec-WebSocket-Accept: y")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def tunnel(proxy: EmbeddedHttp, played: PlayedBackend) -> tuple[Peer, Peer]:
    """Both ends of one."""
    client = proxy.connect()
    client.send(ASKED)
    server = played.accept()
    read_head(server)
    server.send(SWITCHED)
    assert read_head(client).status == 101
    return client, server


def test_an_upgraded_connection_is_a_tunnel(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(ASKED)
        server = played.accept()
        head = read_head(server)
        assert [head.get(name) for name in ("Connection", "Upgrade", "Sec-WebSocket-Key")] == [
            b"upgrade", b"websocket", b"x",
        ]  # fmt: skip
        server.send(SWITCHED)
        got = read_head(client)
        assert got.start == b"HTTP/1.1 101 Switching Protocols"
        assert [got.get(name) for name in ("Connection", "Upgrade", "Sec-WebSocket-Accept")] == [
            b"upgrade", b"websocket", b"y",
        ]  # fmt: skip
        client.send(b"\0\r\n\r\nfrom the client")
        assert server.receive(20) == b"\0\r\n\r\nfrom the client"
        server.send(b"HTTP/1.1 nothing of the kind")
        assert client.receive(28) == b"HTTP/1.1 nothing of the kind"
        assert borrowed(proxy) == 1

        client.finish()
        assert server.rest() == (b"", End.FIN)
        server.send(b"last")
        server.close()
        assert client.rest() == (b"last", End.FIN)
        (record,) = proxy.ended()
        assert (record.status, record.code, record.target) == (101, "--", b"/chat")
        assert record.bytes_in == len(ASKED) + 20
        assert record.bytes_out == got.size + 28 + 4
        assert borrowed(proxy) == idle(proxy) == 0
        assert proxy.closed() == {"normal": 1}
        assert proxy.worker.metrics.snapshot().counters["responses.web.1xx"] == 1


def test_what_came_behind_either_head_comes_first(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(ASKED + b"early ")
        server = played.accept()
        read_head(server)
        client.send(b"bird ")
        eventually(lambda: proxy.sessions[0].data == b"early bird ")
        server.send(SWITCHED + b"hello ")
        switched = read_head(client)
        client.send(b"and more")
        server.send(b"there")
        assert server.receive(19) == b"early bird and more"
        assert client.receive(11) == b"hello there"
        client.close()
        server.close()
        (record,) = proxy.ended()
        assert record.bytes_in == len(ASKED) + 19
        assert record.bytes_out == switched.size + 11


def narrow(endpoint: Endpoint, timeout: float) -> Socket:
    """A dial whose connections take few bytes at once."""
    sock = dial(endpoint, timeout)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return sock


def test_what_comes_while_early_bytes_are_still_on_their_way(played: PlayedBackend) -> None:
    """The backend takes its time to read them."""
    played._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with EmbeddedHttp(backend(played), dial=narrow) as proxy:
        client = proxy.connect()
        early, later = b"e" * 60_000, b"l" * 60_000
        client.send(ASKED + early)
        server = played.accept()
        read_head(server)
        (session,) = proxy.sessions
        eventually(lambda: len(session.data) == len(early))
        server.send(SWITCHED)
        read_head(client)
        eventually(lambda: session.backend_stream is None or session.backend_stream.wants_room)
        client.send(later)
        client.finish()
        gevent.sleep(0.05)
        assert server.rest() == (early + later, End.FIN)
        server.close()
        assert proxy.ended()[0].bytes_in == len(ASKED) + 120_000


def test_a_client_that_sends_on_and_on_from_the_start(played: PlayedBackend) -> None:
    """Both directions flow from the 101 on: a backend that echoes would else wait for us as we for it."""
    size = 30_000_000
    with EmbeddedHttp(backend(played), dial=narrow) as proxy:
        client = proxy.connect()
        client.send(ASKED)
        server = played.accept()
        read_head(server)
        sending = gevent.spawn(client.send, bytes(size))
        (session,) = proxy.sessions
        eventually(lambda: len(session.data) >= 64 * 1024)

        def echo() -> None:
            while data := server.sock.recv(1 << 16):
                server.send(data)

        server.send(SWITCHED)
        echoing = gevent.spawn(echo)
        read_head(client)
        assert client.receive(size) == bytes(size)
        sending.get()
        client.finish()
        echoing.get()


def test_a_backend_may_decline(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(ASKED)
        server = played.accept()
        read_head(server)
        server.send(ok(b"no"))
        assert read_response(client).body == b"no"
        serve(client, server)
        assert not played.waiting()


@pytest.mark.parametrize(
    "asked",
    [
        get("/", "Connection: upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
        post(b"body", "/", *UPGRADE),
        get("/", *UPGRADE, minor=0),
        get("/", "Upgrade: websocket"),
    ],
    ids=["h2c", "with a body", "HTTP/1.0", "not named in Connection"],
)
def test_requests_that_are_not_upgraded(played: PlayedBackend, asked: bytes) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(asked)
        server = played.accept()
        head = read_head(server)
        assert (head.get("Upgrade"), head.get("Connection")) == (None, None)
        server.send(SWITCHED)
        assert read_response(client).status == 502
        assert proxy.codes() == ["PH"]
        server.rest()
        assert borrowed(proxy) == idle(proxy) == 0


@pytest.mark.parametrize(("who", "code"), [("client", "CT"), ("backend", "ST")])
def test_a_reset_tells_who(played: PlayedBackend, who: str, code: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = tunnel(proxy, played)
        client.send(b"x")
        server.receive(1)
        (client if who == "client" else server).reset()
        assert (server if who == "client" else client).rest() == (b"", End.RESET)
        assert proxy.codes() == [code]
        assert proxy.closed() == {code: 1}


TIMEOUTS = "tunnel_timeout: 100, half_close_timeout: 30, stall_timeout: 20, client_idle_timeout: 5, response_timeout: 5"


@pytest.fixture
def proxy(played: PlayedBackend, clock: FakeClock) -> Iterator[EmbeddedHttp]:
    with EmbeddedHttp(backend(played), upstream=TIMEOUTS, clock=clock) as proxy:
        yield proxy


def test_a_silent_tunnel(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = tunnel(proxy, played)
    proxy.pass_time(clock, 99.75)
    client.send(b"ping")
    assert server.receive(4) == b"ping"
    proxy.pass_time(clock, 99.75)
    assert len(proxy.sessions) == 1
    proxy.pass_time(clock, 0.25)
    assert client.rest() == server.rest() == (b"", End.FIN)
    assert proxy.codes() == ["cT"]


@pytest.mark.parametrize(("who", "code"), [("client", "sL"), ("backend", "cL")])
def test_a_tunnel_half_closed(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock, who: str, code: str
) -> None:
    client, server = tunnel(proxy, played)
    one, other = (client, server) if who == "client" else (server, client)
    one.finish()
    assert other.rest() == (b"", End.FIN)
    proxy.pass_time(clock, 29.75)
    other.send(b"still there")
    assert one.receive(11) == b"still there"
    proxy.pass_time(clock, 29.75)
    assert len(proxy.sessions) == 1
    proxy.pass_time(clock, 0.25)
    assert one.rest() == (b"", End.FIN)
    assert proxy.codes() == [code]


def test_a_tunnel_s_peer_that_takes_no_more(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = tunnel(proxy, played)
    sending = gevent.spawn(client.send, bytes(50_000_000))
    eventually(lambda: proxy.sessions[0]._tunnel._relay.up.held)
    gevent.sleep(0.05)
    proxy.pass_time(clock, 19.75)
    assert len(proxy.sessions) == 1
    proxy.pass_time(clock, 0.25)
    assert proxy.codes() == ["cT"]
    with pytest.raises(OSError):  # noqa: PT011
        sending.get()
    assert server.rest()[1] is End.RESET


def test_a_tunnel_outlives_a_drain_until_it_is_killed(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = tunnel(proxy, played)
        drain = gevent.spawn(proxy.worker.drain, 0.2)
        eventually(lambda: proxy.service.draining)
        client.send(b"still")
        assert server.receive(5) == b"still"
        assert drain.get() is False
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest() == server.rest() == (b"", End.RESET)
        assert proxy.codes() == ["KD"]


def test_a_tunnel_is_on_the_relay_and_holds_no_greenlet(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = tunnel(proxy, played)
        (session,) = proxy.sessions
        eventually(lambda: session.greenlet is None)
        data: Any = bytes(20_000_000)
        sending = gevent.spawn(server.send, data)
        assert client.receive(len(data)) == data
        sending.get()
        client.close()
        server.close()
        assert proxy.ended()[0].bytes_out >= len(data)
