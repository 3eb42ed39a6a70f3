"""Every deadline of an http session, on a clock that the test moves. (Dials and queues: test_http_errors.py.)"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from gproxy.core.termination import Ended
from gproxy.http.client import Phase
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
    read_request,
    read_response,
    request,
    response,
    serve,
)
from tests.support.loopback import End, Peer, PlayedBackend
from tests.support.poll import eventually

TIMEOUTS = (
    "request_head_timeout: 10, client_idle_timeout: 70, response_timeout: 50, stall_timeout: 20, "
    "half_close_timeout: 30, tunnel_timeout: 3600, connection_idle_timeout: 80"
)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def proxy(played: PlayedBackend, clock: FakeClock) -> Iterator[EmbeddedHttp]:
    with EmbeddedHttp(backend(played), upstream=TIMEOUTS, clock=clock) as proxy:
        yield proxy


def asked(proxy: EmbeddedHttp, played: PlayedBackend, what: bytes | None = None) -> tuple[Peer, Peer]:
    """A client, and the backend that has read its head."""
    client = proxy.connect()
    client.send(what or get())
    server = played.accept()
    read_head(server)
    return client, server


def alive(proxy: EmbeddedHttp, clock: FakeClock, seconds: float) -> None:
    """So much later, the session is still what it was."""
    (session,) = proxy.sessions
    phase = session.phase
    proxy.pass_time(clock, seconds)
    gevent.sleep(0.02)
    assert proxy.sessions == [session]
    assert session.phase is phase


# --- heads, and between requests -----------------------------------------------------------


def test_a_slow_head(proxy: EmbeddedHttp, clock: FakeClock) -> None:
    client = proxy.connect()
    client.send(get()[:10])
    eventually(lambda: proxy.sessions and proxy.sessions[0].data)
    alive(proxy, clock, 9.75)
    proxy.pass_time(clock, 0.25)
    assert read_response(client).status == 408
    assert client.rest() == (b"", End.FIN)
    (record,) = proxy.ended()
    assert (record.code, record.status, record.method, record.tr, record.ta) == ("cR", 408, b"", None, 10.0)


def test_a_head_that_comes_byte_by_byte_has_no_longer_time(proxy: EmbeddedHttp, clock: FakeClock) -> None:
    client = proxy.connect()
    for byte in get()[:9]:
        client.send(bytes([byte]))
        gevent.sleep(0.01)
        alive(proxy, clock, 1.0)
    proxy.pass_time(clock, 1.0)
    assert read_response(client).status == 408


def test_a_silent_client_is_told_nothing(proxy: EmbeddedHttp, clock: FakeClock) -> None:
    """Browsers connect ahead: an answer would be taken for the one to their first request."""
    client = proxy.connect()
    eventually(lambda: proxy.sessions)
    alive(proxy, clock, 9.75)
    proxy.pass_time(clock, 0.25)
    assert client.rest() == (b"", End.FIN)
    assert proxy.closed() == {"normal": 1}
    assert proxy._records.ended == []


def test_a_client_that_asks_no_more(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = asked(proxy, played)
    server.send(ok())
    read_response(client)
    alive(proxy, clock, 69.75)
    proxy.pass_time(clock, 0.25)
    assert client.rest() == (b"", End.FIN)
    assert proxy.closed() == {"normal": 1}
    assert len(proxy.ended()) == 1


def test_a_slow_second_head(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = asked(proxy, played)
    server.send(ok())
    read_response(client)
    alive(proxy, clock, 60.0)
    client.send(get()[:10])
    eventually(lambda: proxy.sessions[0].data)
    alive(proxy, clock, 9.75)
    proxy.pass_time(clock, 0.25)
    assert read_response(client).status == 408
    assert proxy.codes(2) == ["--", "cR"]


def test_each_request_has_all_of_its_time(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = asked(proxy, played)
    for _ in range(3):
        alive(proxy, clock, 40.0)
        server.send(ok())
        read_response(client)
        client.send(get())
        read_head(server)
    server.send(ok())
    assert read_response(client).status == 200


# --- backends that don't answer -----------------------------------------------------------------


def test_a_backend_that_does_not_answer(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = asked(proxy, played)
    alive(proxy, clock, 49.75)
    proxy.pass_time(clock, 0.25)
    got = read_response(client)
    assert got.head.start == b"HTTP/1.1 504 Gateway Timeout"
    assert client.rest() == (b"", End.FIN)
    assert server.rest()[0] == b""
    (record,) = proxy.ended()
    assert (record.code, record.status, record.retries, record.tresp) == ("sH", 504, 0, None)
    assert borrowed(proxy) == idle(proxy) == 0
    assert not played.waiting()


def test_a_backend_that_answers_byte_by_byte_has_no_longer_time(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    client, server = asked(proxy, played)
    for byte in ok()[:4]:
        server.send(bytes([byte]))
        alive(proxy, clock, 10.0)
    proxy.pass_time(clock, 10.0)
    assert read_response(client).status == 504


def test_the_time_for_an_answer_begins_with_the_request_s_end(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    client, server = asked(proxy, played, post(b"0123456789")[:-10])
    for byte in b"0123456789":
        alive(proxy, clock, 19.0)
        client.send(bytes([byte]))
        assert server.receive(1) == bytes([byte])
    eventually(lambda: proxy.sessions[0].phase.value.startswith("waiting"))
    alive(proxy, clock, 49.75)
    proxy.pass_time(clock, 0.25)
    assert read_response(client).status == 504
    assert proxy.codes() == ["sH"]


def test_a_second_backend_has_all_of_its_time(clock: FakeClock) -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), upstream=TIMEOUTS, clock=clock) as proxy:
            client, server = asked(proxy, one)
            alive(proxy, clock, 40.0)
            server.close()
            server = two.accept()
            read_head(server)
            alive(proxy, clock, 40.0)
            server.send(ok())
            assert read_response(client).status == 200


def test_a_silent_backend_is_to_blame_while_the_client_waits_for_100(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    client, _ = asked(proxy, played, request("POST", "/", "Content-Length: 4", "Expect: 100-continue"))
    proxy.pass_time(clock, 20.0)
    proxy.pass_time(clock, 30.0)
    assert read_response(client).status == 504
    assert proxy.codes() == ["sH"]


# --- bodies that stall ------------------------------------------------------------------------------


def test_a_client_that_stops_sending(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = asked(proxy, played, post(bytes(1000))[:-500])
    server.receive(500)
    alive(proxy, clock, 19.75)
    client.send(bytes(100))
    server.receive(100)
    alive(proxy, clock, 19.75)
    proxy.pass_time(clock, 0.25)
    assert read_response(client).status == 408
    (record,) = proxy.ended()
    assert (record.code, record.status) == ("cD", 408)
    assert server.rest()[0] == b""
    assert borrowed(proxy) == idle(proxy) == 0


def test_a_backend_that_takes_no_more(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, _ = asked(proxy, played, post(bytes(50_000_000))[:-50_000_000])
    sending = gevent.spawn(client.send, bytes(50_000_000))
    eventually(lambda: proxy.sessions[0].backend_stream.wants_room)
    gevent.sleep(0.05)
    alive(proxy, clock, 19.75)
    proxy.pass_time(clock, 0.25)
    assert read_response(client).status == 504
    assert proxy.codes() == ["sD"]
    assert borrowed(proxy) == 0
    sending.kill()


@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
def test_a_backend_that_stops_sending(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock, framing: str
) -> None:
    client, server = asked(proxy, played)
    if framing == "length":
        server.send(ok(b"0123456789")[:-5])
    elif framing == "chunked":
        server.send(response("200 OK", "Transfer-Encoding: chunked", body=b"5\r\n01234\r\n"))
    else:
        server.send(response("200 OK", body=b"01234"))
    read_head(client)
    client.receive(5 if framing == "length" else 10)
    alive(proxy, clock, 19.75)
    proxy.pass_time(clock, 0.25)
    assert client.rest() == (b"", End.RESET)
    (record,) = proxy.ended()
    assert (record.code, record.status) == ("sD", 200)
    assert server.rest()[0] == b""
    assert borrowed(proxy) == idle(proxy) == 0


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_takes_no_more(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock, framing: str
) -> None:
    client, server = asked(proxy, played)
    size = 50_000_000
    start = response("200 OK", f"Content-Length: {size}" if framing == "length" else "Transfer-Encoding: chunked")
    sending = gevent.spawn(server.send, start + (b"" if framing == "length" else b"%x\r\n" % size) + bytes(size))
    eventually(lambda: proxy.sessions[0].client.wants_room)
    gevent.sleep(0.05)
    alive(proxy, clock, 19.75)
    proxy.pass_time(clock, 0.25)
    (record,) = proxy.ended()
    assert (record.code, record.status) == ("cD", 200)
    with pytest.raises(OSError):  # noqa: PT011
        sending.get()
    assert client.rest()[1] is End.RESET
    assert borrowed(proxy) == idle(proxy) == 0


def test_a_client_that_takes_no_more_of_a_response_that_is_all_here(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    """The backend's connection serves others meanwhile."""
    client, server = asked(proxy, played)
    (session,) = proxy.sessions
    server.send(ok(bytes(60_000)))
    while eventually(lambda: session.phase is Phase.IDLE or session.client.wants_room) and session.phase is Phase.IDLE:
        client.send(get())
        read_head(server)
        server.send(ok(bytes(60_000)))
    alive(proxy, clock, 19.75)
    assert borrowed(proxy) == 0
    proxy.pass_time(clock, 0.25)
    assert client.rest()[1] is End.RESET
    assert proxy.closed() == {"cD": 1}


def test_a_long_body_that_moves_has_all_the_time(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = asked(proxy, played)
    server.send(ok(b"0123456789")[:-10])
    read_head(client)
    for byte in b"0123456789":
        alive(proxy, clock, 19.0)
        server.send(bytes([byte]))
        assert client.receive(1) == bytes([byte])
    serve(client, server)


# --- an early response while its request is still on its way ----------------------------------------


def both_at_once(proxy: EmbeddedHttp, played: PlayedBackend) -> tuple[Peer, Peer]:
    """A client with half of its body sent, and a backend with half of its response."""
    client, server = asked(proxy, played, post(b"0123456789")[:-5])
    server.receive(5)
    server.send(ok(b"0123456789")[:-5])
    read_head(client)
    client.receive(5)
    return client, server


def test_an_upload_that_moves_keeps_an_early_response_alive(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    client, server = both_at_once(proxy, played)
    for byte in b"56789":
        alive(proxy, clock, 19.0)
        client.send(bytes([byte]))
        assert server.receive(1) == bytes([byte])
    server.send(b"56789")
    assert client.receive(5) == b"56789"
    assert proxy.codes() == ["--"]


def test_an_early_response_that_moves_keeps_its_upload_alive(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    client, server = both_at_once(proxy, played)
    for byte in b"56789":
        alive(proxy, clock, 19.0)
        server.send(bytes([byte]))
        assert client.receive(1) == bytes([byte])
    assert proxy.codes() == ["--"]


def test_an_upload_and_its_early_response_that_both_stand_still(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    client, server = both_at_once(proxy, played)
    alive(proxy, clock, 19.75)
    proxy.pass_time(clock, 0.25)
    assert client.rest() == (b"", End.RESET)
    assert server.rest()[0] == b""
    (record,) = proxy.ended()
    assert (record.code, record.status, record.bytes_in) == ("sD", 200, len(post(b"0123456789")) - 5)
    assert borrowed(proxy) == idle(proxy) == 0


def test_a_client_that_neither_reads_nor_sends_the_rest(
    proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    client, server = asked(proxy, played, post(bytes(1000))[:-500])
    sending = gevent.spawn(server.send, ok(bytes(50_000_000)))
    eventually(lambda: proxy.sessions[0].client.wants_room)
    proxy.pass_time(clock, 0.0)
    eventually(lambda: not moves(proxy))
    proxy.pass_time(clock, 20.0)
    (record,) = proxy.ended()
    assert (record.code, record.status) == ("cD", 200)
    sending.kill()
    assert client.rest()[1] is End.RESET


def moves(proxy: EmbeddedHttp) -> bool:
    """Whether bytes have moved while the hub went round."""
    (session,) = proxy.sessions
    before = session.client.moved, session.backend_stream.moved
    gevent.sleep(0.02)
    return (session.client.moved, session.backend_stream.moved) != before


# --- the last answer ------------------------------------------------------------------------------------


def test_a_client_that_neither_reads_nor_leaves_after_a_refusal(proxy: EmbeddedHttp, clock: FakeClock) -> None:
    proxy.connect().send(b"\0")
    proxy.ended()
    eventually(lambda: proxy.sessions[0].phase.value.startswith("waiting for the client"))
    alive(proxy, clock, 4.75)
    proxy.pass_time(clock, 0.25)
    eventually(lambda: not proxy.sessions)
    assert proxy.closed() == {"PR": 1}
    assert len(proxy.ended()) == 1


def lingering(proxy: EmbeddedHttp) -> tuple[Peer, Any]:
    """A client that was refused and has read that, and its session."""
    client = proxy.connect()
    client.send(b"\0")
    assert read_response(client).status == 400
    (session,) = proxy.sessions
    eventually(lambda: session.phase is Phase.LINGER)
    return client, session


def test_killed_while_the_client_is_given_time_to_read_its_refusal(proxy: EmbeddedHttp) -> None:
    client, session = lingering(proxy)
    session.end(Ended.KILLED)
    assert client.rest() == (b"", End.FIN)
    assert proxy.closed() == {"PR": 1}
    assert proxy.codes() == ["PR"]


def test_a_reset_after_a_refusal_is_no_news(proxy: EmbeddedHttp) -> None:
    client, _ = lingering(proxy)
    client.reset()
    assert proxy.closed() == {"PR": 1}
    assert proxy.codes() == ["PR"]


def test_a_client_that_sends_on_after_a_refusal_has_no_longer_time(proxy: EmbeddedHttp, clock: FakeClock) -> None:
    client, _ = lingering(proxy)
    alive(proxy, clock, 4.75)
    client.send(bytes(1000))
    gevent.sleep(0)
    proxy.pass_time(clock, 0.25)
    eventually(lambda: not proxy.sessions)
    assert proxy.codes() == ["PR"]


# --- a tunnel that does not get going -------------------------------------------------------------------

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


@pytest.fixture
def on_unix(played: PlayedBackend, clock: FakeClock, tmp_path: Path) -> Iterator[EmbeddedHttp]:
    """Its clients' sockets hold no more than we say, at once."""
    path = f"unix:{tmp_path}/web.sock"
    with EmbeddedHttp(backend(played), bind=path, upstream=TIMEOUTS, clock=clock) as proxy:
        yield proxy


def starting(proxy: EmbeddedHttp, played: PlayedBackend) -> tuple[Peer, Peer, Any]:
    """A client that takes none of what came behind the 101; the backend; their session."""
    client, server = asked(proxy, played, get("/chat", *UPGRADE))
    (session,) = proxy.sessions
    session.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server.send(response("101 Switching Protocols", *UPGRADE) + bytes(40_000))
    eventually(lambda: session.phase is Phase.TUNNEL and session.client.wants_room)
    return client, server, session


def test_killed_while_a_tunnel_starts(on_unix: EmbeddedHttp, played: PlayedBackend) -> None:
    _, server, session = starting(on_unix, played)
    session.end(Ended.KILLED)
    assert server.rest()[0] == b""
    (record,) = on_unix.ended()
    assert (record.code, record.status) == ("KD", 101)
    assert on_unix.closed() == {"KD": 1}
    assert borrowed(on_unix) == idle(on_unix) == 0


def test_a_client_that_leaves_while_a_tunnel_starts(on_unix: EmbeddedHttp, played: PlayedBackend) -> None:
    client, server, _ = starting(on_unix, played)
    client.close()  # with bytes unread, so it is a reset
    assert server.rest()[0] == b""
    (record,) = on_unix.ended()
    assert (record.code, record.status) == ("CD", 101)
    assert borrowed(on_unix) == idle(on_unix) == 0


def test_a_client_that_takes_nothing_of_a_tunnel_that_starts(
    on_unix: EmbeddedHttp, played: PlayedBackend, clock: FakeClock
) -> None:
    _, server, _ = starting(on_unix, played)
    on_unix.pass_time(clock, 20.0)
    assert server.rest()[0] == b""
    (record,) = on_unix.ended()
    assert (record.code, record.status) == ("cD", 101)
    assert borrowed(on_unix) == idle(on_unix) == 0


# --- pooled connections ----------------------------------------------------------------------------------


def test_an_idle_pooled_connection(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> None:
    client, server = asked(proxy, played)
    server.send(ok())
    read_response(client)
    client.close()
    eventually(lambda: idle(proxy) == 1)
    proxy.pass_time(clock, 79.75)
    assert idle(proxy) == 1
    proxy.pass_time(clock, 0.25)
    assert server.rest() == (b"", End.FIN)


# --- whose timeouts --------------------------------------------------------------------------------------


def test_a_listener_s_own_timeouts_come_first(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played), listener="response_timeout: 5", upstream=TIMEOUTS, clock=clock) as proxy:
        client, _ = asked(proxy, played)
        alive(proxy, clock, 4.75)
        proxy.pass_time(clock, 0.25)
        assert read_response(client).status == 504


def test_a_route_s_upstream_has_timeouts_of_its_own(played: PlayedBackend, clock: FakeClock) -> None:
    api = f"api: {{health_check: {{type: none}}, response_timeout: 5, backends: [{backend(played)}]}}"
    listener = "routes: [{path: /api, upstream: api}]"
    with EmbeddedHttp(backend("127.0.0.1:1"), listener=listener, upstream=TIMEOUTS, further=api, clock=clock) as proxy:
        client = proxy.connect()
        client.send(get("/api/x"))
        read_request(played.accept())
        alive(proxy, clock, 4.75)
        proxy.pass_time(clock, 0.25)
        assert read_response(client).status == 504
