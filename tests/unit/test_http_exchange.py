"""Exchanges of an http listener, in process: responses of every framing, reuse, retries, and backends that lie."""

from __future__ import annotations

import socket
from _socket import socket as Socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from gproxy.errors import DialError, DialFailure
from gproxy.metrics import Slot
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
    read_line,
    read_request,
    read_response,
    request,
    response,
    serve,
)
from tests.support.loopback import End, Peer, PlayedBackend, pair
from tests.support.poll import eventually

GONE = backend("127.0.0.1:1")  # nobody listens there


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def asked(proxy: EmbeddedHttp, played: PlayedBackend, what: bytes | None = None) -> tuple[Peer, Peer]:
    """A client, and the backend that has just read its request."""
    client = proxy.connect()
    client.send(what or get())
    server = played.accept()
    read_request(server)
    return client, server


def pooled(proxy: EmbeddedHttp, played: PlayedBackend, count: int = 1) -> list[Peer]:
    """The backend's ends of so many idle connections."""
    pairs = [asked(proxy, played) for _ in range(count)]
    for client, server in pairs:
        server.send(ok())
        read_response(client)
        client.close()
    eventually(lambda: idle(proxy) == count)
    return [server for _, server in pairs]


# --- responses of every framing -------------------------------------------------------------


def test_a_response_keeps_its_status_line_and_its_fields(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("418 I'm a teapot", "X-One: 1", "Set-Cookie: a=1", "x-two:  2 ", "Set-Cookie: b=2",
                             "Date: yesterday", "Content-Length: 3", body=b"tea"))  # fmt: skip
        got = read_response(client)
        assert got.head.start == b"HTTP/1.1 418 I'm a teapot"
        assert (got.get("x-one"), got.get("x-two"), got.body) == (b"1", b"2", b"tea")
        assert got.head.all("Set-Cookie") == [b"a=1", b"b=2"]
        assert got.get("Date") == b"yesterday"
        assert got.get("Via") == b"1.1 gproxy"
        assert got.get("Connection") is None


def test_a_response_without_a_date_gets_one(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(ok())
        date = read_response(client).get("Date")
        assert date is not None
        assert date.endswith(b" GMT")


def test_the_answer_to_head_tells_a_length_and_has_no_body(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played, request("HEAD"))
        server.send(response("200 OK", "Content-Length: 1000"))
        assert read_response(client, "HEAD").get("Content-Length") == b"1000"
        serve(client, server)
        assert not played.waiting()


@pytest.mark.parametrize("start", ["204 No Content", "304 Not Modified"])
def test_a_response_that_has_no_body(played: PlayedBackend, start: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response(start, "ETag: x"))
        got = read_response(client)
        assert (got.head.start, got.get("ETag"), got.get("Content-Length")) == (
            f"HTTP/1.1 {start}".encode(),
            b"x",
            None,
        )
        serve(client, server)
        assert not played.waiting()


def test_a_304_may_tell_the_length_of_what_is_not_sent(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("304 Not Modified", "Content-Length: 1000"))
        assert read_response(client).get("Content-Length") == b"1000"
        serve(client, server)


def test_a_length_of_zero(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(ok(b""))
        assert read_response(client).get("Content-Length") == b"0"
        serve(client, server)


def test_a_chunked_response_with_trailers_and_extensions(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("200 OK", "Transfer-Encoding: chunked", "Trailer: X-Sum",
                             body=b'3;ext="a;b"\r\nabc\r\n0A\r\n0123456789\r\n000\r\nX-Sum: 7\r\n\r\n'))  # fmt: skip
        got = read_response(client)
        assert (got.body, got.trailers) == (b"abc0123456789", [(b"X-Sum", b"7")])
        serve(client, server)
        assert not played.waiting()


def test_pieces_are_passed_on_as_they_come(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("200 OK", "Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n"))
        assert read_head(client).get("Transfer-Encoding") == b"chunked"
        assert (read_line(client), client.receive(7)) == (b"5", b"first\r\n")
        server.send(b"6\r\nsec")
        assert (read_line(client), client.receive(5)) == (b"3", b"sec\r\n")
        server.send(b"ond\r\n0\r\n\r\n")
        assert (read_line(client), client.receive(5)) == (b"3", b"ond\r\n")
        assert client.receive(5) == b"0\r\n\r\n"


def test_a_body_until_close_becomes_chunked(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("200 OK", body=b"all of "))
        server.send(b"it")
        server.close()
        got = read_response(client)
        assert (got.get("Transfer-Encoding"), got.body) == (b"chunked", b"all of it")
        client.send(get("/next"))  # the client's side lives on
        assert read_head(played.accept()).target == b"/next"
        assert proxy.codes() == ["--"]


def test_a_body_until_close_that_ends_by_a_reset_is_cut_off(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("200 OK", body=b"all of "))
        assert read_head(client).get("Transfer-Encoding") == b"chunked"
        server.reset()
        data, end = client.rest()
        assert end is End.RESET
        assert not data.endswith(b"0\r\n\r\n")
        assert proxy.codes() == ["SD"]


def test_a_backend_that_speaks_http_1_0(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(ok(b"old", minor=0))
        got = read_response(client)
        assert (got.head.start, got.body, got.get("Via")) == (b"HTTP/1.1 200 OK", b"old", b"1.0 gproxy")
        assert server.rest() == (b"", End.FIN)  # it would close the connection itself
        assert idle(proxy) == 0


def test_a_backend_that_speaks_http_1_0_and_keeps_alive(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(ok(b"old", "Connection: keep-alive", minor=0))
        assert read_response(client).get("Connection") is None
        serve(client, server)


def test_connection_close_of_the_backend_is_not_the_client_s(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(ok(b"ok", "Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5"))
        got = read_response(client)
        assert [got.get(name) for name in ("Connection", "X-Hop", "Keep-Alive")] == [None] * 3
        assert server.rest() == (b"", End.FIN)
        client.send(get("/next"))
        assert read_head(played.accept()).target == b"/next"


# --- interim responses ------------------------------------------------------------------------


def test_interim_responses_are_forwarded_as_they_come(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("103 Early Hints", "Link: </style.css>"))
        hint = read_head(client)
        assert (hint.status, hint.get("Link")) == (103, b"</style.css>")
        server.send(response("102 Processing") + response("103 Early Hints") + ok(b"final")[:20])
        assert [read_head(client).status for _ in range(2)] == [102, 103]
        server.send(ok(b"final")[20:])
        assert read_response(client).body == b"final"
        (record,) = proxy.ended()
        assert (record.status, record.code) == (200, "--")
        serve(client, server)


def test_http_1_0_hears_of_no_interim_response(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played, get(minor=0))
        server.send(response("103 Early Hints") + ok(b"final"))
        assert read_response(client).body == b"final"


def test_interim_responses_without_end_are_refused(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        sending = gevent.spawn(server.send, response("103 Early Hints") * 10_000)
        while (head := read_head(client)).status == 103:
            pass
        assert head.status == 502
        assert proxy.codes() == ["PH"]
        sending.kill()


def test_a_backend_that_dies_after_an_interim_response_is_not_asked_again(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("103 Early Hints"))
        assert read_head(client).status == 103
        server.close()
        assert read_response(client).status == 502
        assert proxy.codes() == ["SH"]
        assert not played.waiting()


def test_a_switch_that_nobody_asked_for(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket"))
        assert read_response(client).status == 502
        assert server.rest()[0] == b""
        assert proxy.codes() == ["PH"]
        assert borrowed(proxy) == idle(proxy) == 0


# --- large responses -----------------------------------------------------------------------------

LARGE = bytes(range(256)) * 40_000  # 10 MB


@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
def test_a_large_response(played: PlayedBackend, framing: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        if framing == "length":
            answer = ok(LARGE)
        elif framing == "chunked":
            answer = response(
                "200 OK", "Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE)
            )
        else:
            answer = response("200 OK", body=LARGE)
        sending = gevent.spawn(server.send, answer)
        if framing == "until close":
            sending.rawlink(lambda _: server.finish())
        got = read_response(client)
        assert got.body == LARGE
        (record,) = proxy.ended()
        assert record.bytes_out >= len(LARGE) + got.head.size
        assert record.code == "--"
        if framing == "length":
            assert record.bytes_out == len(LARGE) + got.head.size
        if framing != "until close":
            serve(client, server)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_does_not_read_stops_the_backend(played: PlayedBackend, framing: str) -> None:
    """What is under way is in the kernel's buffers and in one of ours."""
    with EmbeddedHttp(backend(played)) as proxy:
        _, server = asked(proxy, played)
        chunked = b"%x\r\n%b\r\n" % (len(LARGE), LARGE)
        if framing == "length":
            server.send(response("200 OK", f"Content-Length: {100 * len(LARGE)}"))
        else:
            server.send(response("200 OK", "Transfer-Encoding: chunked"))
        sent = 0

        def send() -> None:
            nonlocal sent
            while True:
                server.send(LARGE if framing == "length" else chunked)
                sent += len(LARGE)

        sending = gevent.spawn(send)
        (session,) = proxy.sessions
        eventually(lambda: session.client.wants_room)
        gevent.sleep(0.05)
        assert sent <= 3 * len(LARGE)
        assert session.backend_stream.moved - session.client.moved < 2 << 20
        sending.kill()


# --- retries ------------------------------------------------------------------------------------


class Dying:
    """Ends a pooled connection in a way that gproxy learns of only when it uses it."""

    def __init__(self, proxy: EmbeddedHttp, played: PlayedBackend):
        (self.server,) = pooled(proxy, played)

    def after_the_request(self) -> None:
        read_request(self.server)
        self.server.close()


def test_a_reused_connection_that_died_costs_a_get_nothing(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        dying = Dying(proxy, played)
        client = proxy.connect()
        client.send(get("/again"))
        dying.after_the_request()
        server = played.accept()
        assert read_head(server).target == b"/again"
        server.send(ok())
        assert read_response(client).status == 200
        _, record = proxy.ended(2)
        assert (record.retries, record.reused, record.code) == (1, False, "--")
        assert proxy.backends[0].stats.retries == 1


def test_a_fresh_connection_is_taken_for_the_retry_though_others_are_idle(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        servers = pooled(proxy, played, 3)
        client = proxy.connect()
        client.send(get("/again"))
        read_request(servers[-1])
        servers[-1].close()
        assert read_head(played.accept()).target == b"/again"


def test_a_post_is_not_sent_again(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        dying = Dying(proxy, played)
        client = proxy.connect()
        client.send(post(b"once"))
        dying.after_the_request()
        assert read_response(client).status == 502
        _, record = proxy.ended(2)
        assert (record.code, record.status, record.retries, record.reused) == ("SH", 502, 0, True)
        assert not played.waiting()
        assert borrowed(proxy) == 0


@pytest.mark.parametrize("how", [Peer.close, Peer.reset], ids=["FIN", "RST"])
def test_a_post_looks_twice_before_it_uses_an_idle_connection(played: PlayedBackend, how: Any) -> None:
    """The hub has not run since the backend closed it."""
    with EmbeddedHttp(backend(played)) as proxy:
        (server,) = pooled(proxy, played)
        client = proxy.connect()
        how(server)
        client.send(post(b"once"))
        fresh = played.accept()
        assert read_request(fresh).body == b"once"
        fresh.send(ok())
        assert read_response(client).status == 200
        assert proxy.counted(Slot.POOL_STALE) == 1


def test_a_put_with_its_body_is_sent_again(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        dying = Dying(proxy, played)
        client = proxy.connect()
        client.send(request("PUT", "/", "Content-Length: 4", body=b"body"))
        dying.after_the_request()
        server = played.accept()
        assert read_request(server).body == b"body"
        server.send(ok())
        assert read_response(client).status == 200


def test_a_fresh_connection_that_died_sends_a_get_to_the_next_backend() -> None:
    with PlayedBackend() as one, PlayedBackend() as two, EmbeddedHttp(backend(one, "name: b1"), backend(two)) as proxy:
        client, server = asked(proxy, one)
        server.close()
        server = two.accept()
        assert read_head(server).target == b"/"
        server.send(ok())
        assert read_response(client).status == 200
        (record,) = proxy.ended()
        assert (record.retries, record.code) == (1, "--")
        assert [b.stats.retries for b in proxy.backends] == [1, 0]


def test_a_fresh_connection_that_died_ends_a_post() -> None:
    with PlayedBackend() as one, PlayedBackend() as two, EmbeddedHttp(backend(one), backend(two)) as proxy:
        client, server = asked(proxy, one, post(b"once"))
        server.close()
        assert read_response(client).status == 502
        assert not two.waiting()
        assert proxy.codes() == ["SH"]


def test_the_only_backend_is_not_asked_twice_on_fresh_connections(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.close()
        assert read_response(client).status == 502
        assert not played.waiting()
        assert proxy.codes() == ["SH"]


def test_no_more_backends_are_tried_than_configured() -> None:
    with PlayedBackend() as one, PlayedBackend() as two, PlayedBackend() as three:
        backends = [backend(played) for played in (one, two, three)]
        with EmbeddedHttp(*backends, upstream="retries: 1") as proxy:
            client, server = asked(proxy, one)
            server.close()
            server = two.accept()
            read_head(server)
            server.close()
            assert read_response(client).status == 502
            assert not three.waiting()
            assert proxy.ended()[0].retries == 1


def test_a_reused_connection_that_died_is_no_try_of_another_backend() -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), upstream="retries: 1") as proxy:
            client, pooled_one = asked(proxy, one)
            pooled_one.send(ok())
            read_response(client)
            asked(proxy, two)
            client.send(get("/again"))
            read_head(pooled_one)
            pooled_one.close()
            fresh = two.accept()  # whoever's turn it is
            read_head(fresh)
            fresh.close()
            gevent.spawn(lambda: (last := one.accept(), read_head(last), last.send(ok(b"the one retry"))))
            assert read_response(client).body == b"the one retry"


def dies_of_every_request(played: PlayedBackend) -> None:
    while True:
        peer = played.accept()
        read_head(peer)
        peer.close()


def test_an_outage_is_met_with_few_retries() -> None:
    """Three in ten seconds are always allowed; after them a fifth of the requests."""
    clock = FakeClock()
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), clock=clock) as proxy:
            dying = [gevent.spawn(dies_of_every_request, played) for played in (one, two)]
            for _ in range(10):
                client = proxy.connect()
                client.send(get())
                assert read_response(client).status == 502
            assert proxy.codes(10) == ["SH"] * 10
            assert sum(b.stats.retries for b in proxy.backends) == 3
            gevent.killall(dying)


def test_a_post_of_which_nothing_was_sent_is_sent_again(tmp_path: Path) -> None:
    """The backend takes no more, which nobody could see before the write."""
    with PlayedBackend(tmp_path / "app.sock") as played, EmbeddedHttp(backend(played)) as proxy:
        (server,) = pooled(proxy, played)
        server.sock.shutdown(socket.SHUT_RD)
        client = proxy.connect()
        client.send(post(b"once"))
        server = played.accept()
        assert read_request(server).body == b"once"
        server.send(ok())
        assert read_response(client).status == 200
        _, record = proxy.ended(2)
        assert (record.retries, record.reused, record.code) == (1, False, "--")
        assert borrowed(proxy) == 0


def test_a_post_that_a_fresh_connection_did_not_take_goes_to_the_next_backend(played: PlayedBackend) -> None:
    dials: list[Endpoint] = []

    def dead_at_first(endpoint: Endpoint, timeout: float) -> Socket:
        dials.append(endpoint)
        if len(dials) > 1:
            return dial(endpoint, timeout)
        peer, sock = pair()
        peer.reset()
        return sock

    with EmbeddedHttp(GONE, backend(played), dial=dead_at_first) as proxy:
        client, server = asked(proxy, played, post(b"once"))
        server.send(ok())
        assert read_response(client).status == 200
        assert proxy.ended()[0].retries == 1
        assert [b.stats.retries for b in proxy.backends] == [1, 0]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_fresh_connection_that_died_sends_an_idempotent_request_to_the_next_backend(method: str) -> None:
    with PlayedBackend() as one, PlayedBackend() as two, EmbeddedHttp(backend(one), backend(two)) as proxy:
        client, server = asked(proxy, one, request(method, "/thing", "Content-Length: 4", body=b"body"))
        server.close()
        server = two.accept()
        got = read_request(server)
        assert (got.head.start, got.body) == (f"{method} /thing HTTP/1.1".encode(), b"body")
        server.send(ok())
        assert read_response(client).status == 200
        assert proxy.ended()[0].retries == 1


def test_the_retry_budget_is_not_for_pooled_connections_that_died(played: PlayedBackend) -> None:
    """Else a restart of a backend, which ends all of them, would cost requests."""
    with EmbeddedHttp(backend(played), clock=FakeClock()) as proxy:
        for server in pooled(proxy, played, 8):
            server.sock.settimeout(10.0)
        clients = []
        servers = played._peers[-8:]
        for _ in range(8):
            clients.append(proxy.connect())
            clients[-1].send(get("/again"))
        for server in servers:
            read_request(server)
            server.close()
        for _ in clients:
            server = played.accept()
            assert read_head(server).target == b"/again"
            server.send(ok())
        assert [read_response(client).status for client in clients] == [200] * 8
        assert proxy.backends[0].stats.retries == 8


def test_pooled_connections_that_died_leave_the_budget_to_others() -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), clock=FakeClock()) as proxy:
            budget = proxy.worker.upstreams["app"].retries
            client, server = asked(proxy, one)
            server.send(ok())
            read_response(client)
            asked(proxy, two)
            client.send(get("/again"))
            read_head(server)
            server.close()
            server = two.accept()
            read_head(server)
            assert budget._retries == 0
            server.close()
            read_head(one.accept())
            assert budget._retries == 1


def test_a_request_is_not_sent_again_after_the_first_byte_of_an_answer(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(b"H")
        server.close()
        assert read_response(client).status == 502
        assert proxy.codes() == ["SH"]
        assert not played.waiting()


# --- who cannot be served -----------------------------------------------------------------------------


def test_a_failed_dial_goes_on_to_the_next_backend(played: PlayedBackend) -> None:
    with EmbeddedHttp(GONE, backend(played)) as proxy:
        client, server = asked(proxy, played, post(b"never sent before"))
        server.send(ok())
        assert read_response(client).status == 200
        (record,) = proxy.ended()
        assert (record.retries, record.reused, record.code) == (1, False, "--")


# --- backends that lie ----------------------------------------------------------------------------------

OTHERS = response("200 OK", "Content-Length: 6", body=b"poison")


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", ok(b"mine")),
        ("GET", ok(b"")),
        ("GET", response("200 OK", "Transfer-Encoding: chunked", body=b"4\r\nmine\r\n0\r\n\r\n")),
        ("GET", response("204 No Content")),
        ("GET", response("304 Not Modified")),
        ("HEAD", response("200 OK", "Content-Length: 4")),
    ],
    ids=["length", "zero", "chunked", "204", "304", "HEAD"],
)
@pytest.mark.parametrize("when", ["with the response", "right behind it", "once it is idle", "as the next one asks"])
def test_bytes_behind_a_response_reach_nobody(played: PlayedBackend, method: str, answer: bytes, when: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played, request(method))
        following = proxy.connect()
        eventually(lambda: len(proxy.sessions) == 2)
        if when == "with the response":
            server.send(answer + OTHERS)
        else:
            server.send(answer)
            if when == "right behind it":
                server.send(OTHERS)
        got = read_response(client, method)
        assert b"poison" not in got.body
        if when in ("once it is idle", "as the next one asks"):
            eventually(lambda: idle(proxy) == 1)
            server.send(OTHERS)
        if when == "once it is idle":
            eventually(lambda: idle(proxy) == 0)
        following.send(get("/next"))
        other = played.accept()
        assert read_head(other).target == b"/next"
        other.send(ok(b"good"))
        assert read_response(following).body == b"good"
        assert server.rest()[0] == b""


@pytest.mark.parametrize("end", [Peer.close, Peer.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("size", [5, 1_000_000], ids=["small", "spliced"])
def test_a_response_that_is_too_short_is_cut_off(played: PlayedBackend, end: Any, size: int) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(ok(bytes(size))[:-1])
        reading = gevent.spawn(client.receive, size)
        eventually(lambda: proxy.sessions[0].client.moved > size)
        end(server)
        reading.get()
        assert client.rest()[1] is End.RESET
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("SD", 200)
        assert borrowed(proxy) == idle(proxy) == 0


def test_a_chunked_response_without_its_end_is_cut_off(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("200 OK", "Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n"))
        read_head(client)
        server.close()
        data, end = client.rest()
        assert end is End.RESET
        assert b"0\r\n\r\n" not in data
        assert proxy.codes() == ["SD"]


def test_chunks_that_turn_into_garbage(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(response("200 OK", "Transfer-Encoding: chunked", body=b"5\r\nfirst\r\n"))
        read_head(client)
        server.send(b"zz\r\n")
        data, end = client.rest()
        assert end is End.RESET
        assert b"zz" not in data
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("PD", 200)
        assert server.rest()[0] == b""


@pytest.mark.parametrize(
    "head",
    [
        b"garbage\r\n\r\n",
        b"\0",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 129 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536,
    ],
    ids=lambda head: head[:40].decode("latin-1").split("\r")[0] + f" {len(head)}",
)
def test_a_response_head_that_is_no_good(played: PlayedBackend, head: bytes) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = asked(proxy, played)
        server.send(head)
        if not head.endswith(b"\r\n\r\n") and b"\n\n" not in head and b"\0" not in head and len(head) < 100:
            server.finish()
        assert read_response(client).status == 502
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("SH" if head.startswith(b"SSH") else "PH", 502)
        assert borrowed(proxy) == idle(proxy) == 0
        assert not played.waiting()


def test_a_response_before_any_request(played: PlayedBackend) -> None:
    """An idle connection that speaks is not lent; a fresh one is, and what it says first is the first answer."""
    with EmbeddedHttp(backend(played)) as proxy:
        (server,) = pooled(proxy, played)
        server.send(OTHERS)
        eventually(lambda: idle(proxy) == 0)
        assert proxy.counted(Slot.POOL_DIRTY) == 1
        assert server.rest()[0] == b""


# --- what a backend promises ------------------------------------------------------------------------------


def test_a_promised_idle_time_is_kept_below(played: PlayedBackend) -> None:
    clock = FakeClock()
    with EmbeddedHttp(backend(played), clock=clock) as proxy:
        client, server = asked(proxy, played)
        server.send(ok(b"ok", "Keep-Alive: timeout=5"))
        read_response(client)
        clock.advance(3.9)
        serve(client, server)
        clock.advance(4.0)
        client.send(get("/fresh"))
        assert read_head(played.accept()).target == b"/fresh"


def test_an_idle_time_after_which_the_backend_closes_is_learned(played: PlayedBackend) -> None:
    clock = FakeClock()
    with EmbeddedHttp(backend(played), clock=clock) as proxy:
        (server,) = pooled(proxy, played)
        clock.advance(2.0)
        server.close()
        eventually(lambda: idle(proxy) == 0)
        (second,) = pooled(proxy, played)
        clock.advance(1.6)
        client = proxy.connect()
        client.send(get("/fresh"))
        assert read_head(played.accept()).target == b"/fresh"
        assert second.rest()[0] == b""


def test_an_idle_connection_is_closed_after_its_time(played: PlayedBackend) -> None:
    clock = FakeClock()
    with EmbeddedHttp(backend(played), upstream="connection_idle_timeout: 60", clock=clock) as proxy:
        (server,) = pooled(proxy, played)
        proxy.pass_time(clock, 59)
        assert idle(proxy) == 1
        proxy.pass_time(clock, 1)
        assert idle(proxy) == 0
        assert server.rest() == (b"", End.FIN)


@pytest.mark.parametrize("key", ["max_uses: 1", "reuse: never", "size: 1"])
def test_pool_keys(played: PlayedBackend, key: str) -> None:
    with EmbeddedHttp(backend(played), upstream=f"pool: {{{key}}}") as proxy:
        pairs = [asked(proxy, played) for _ in range(2)]
        for client, server in pairs:
            server.send(ok())
            read_response(client)
        eventually(lambda: borrowed(proxy) == 0)
        assert idle(proxy) == (1 if key == "size: 1" else 0)


def test_connections_dialled_ahead_are_not_reused_ones(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="pool: {preconnect: 1}") as proxy:
        ahead = played.accept()
        eventually(lambda: idle(proxy) == 1)
        client = proxy.connect()
        client.send(get())
        read_head(ahead)
        played.accept()  # the next one's
        ahead.send(ok())
        read_response(client)
        assert proxy.ended()[0].reused is False
        assert proxy.backends[0].stats.reuses == 0


# --- responses of 5xx ---------------------------------------------------------------------------------------


def test_a_run_of_5xx_ejects_where_that_is_wanted() -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), upstream="passive_health: {server_errors: 2}") as proxy:
            client, server = asked(proxy, one)
            server.send(response("500 Oh", "Content-Length: 0"))
            read_response(client)
            other, second = asked(proxy, two)
            second.send(ok())
            read_response(other)
            client.send(get())
            read_head(server)
            server.send(response("503 Oh", "Content-Length: 0"))
            assert read_response(client).status == 503
            eventually(lambda: proxy.backends[0].stats.ejections == 1)
            for _ in range(2):
                serve(other, second)


def test_a_dial_that_our_shortage_ended() -> None:
    def short(_endpoint: Endpoint, _timeout: float) -> Socket:
        raise DialError(DialFailure.RESOURCES, "no descriptor is left")

    with EmbeddedHttp(GONE, dial=short) as proxy:
        client = proxy.connect()
        client.send(get())
        assert read_response(client).status == 503
        assert proxy.codes() == ["RC"]
