"""Sessions of an http listener, in process: requests one after the other, rest in between, and how they end."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from greenlet import greenlet

from gproxy.core.termination import Ended
from gproxy.metrics import Slot
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
from tests.support.loopback import TIMEOUT, End, Peer, PlayedBackend
from tests.support.poll import eventually


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def resting(proxy: EmbeddedHttp) -> bool:
    """Whether the only session is between two requests."""
    (session,) = proxy.sessions
    return bool(session.greenlet is None)


# --- requests one after the other ---------------------------------------------------------


def test_an_exchange_from_request_to_record(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "name: b1")) as proxy:
        client = proxy.connect()
        asked = get("/path?query", "X-Request-ID: from-the-client")
        client.send(asked)
        server = played.accept()
        head = read_head(server)
        assert head.start == b"GET /path?query HTTP/1.1"
        server.send(ok(b"hello"))
        got = read_response(client)
        assert (got.head.start, got.body) == (b"HTTP/1.1 200 OK", b"hello")
        (record,) = proxy.ended()

        assert record.client == "{}:{}".format(*client.sock.getsockname())
        assert (record.listener, record.upstream, record.backend) == ("web", "app", "b1")
        assert (record.method, record.target, record.version) == (b"GET", b"/path?query", b"HTTP/1.1")
        assert record.request_id == b"from-the-client"
        assert (record.status, record.code) == (200, "--")
        assert record.bytes_in == len(asked)
        assert record.bytes_out == got.head.size + len(b"hello")
        assert (record.active, record.listener_active) == (1, 1)
        assert (record.retries, record.reused) == (0, False)
        timers = (record.tr, record.tw, record.tc, record.tresp)
        assert all(timer is not None and timer >= 0 for timer in timers)
        assert record.ta is not None
        assert sum(timers) <= record.ta


def test_requests_of_two_clients_share_one_connection(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        first, second = proxy.connect(), proxy.connect()
        first.send(get("/1"))
        server = played.accept()
        assert read_head(server).target == b"/1"
        server.send(ok(b"one"))
        assert read_response(first).body == b"one"
        for client, body in ((second, b"two"), (first, b"three"), (second, b"four")):
            serve(client, server, body)
        assert not played.waiting()
        assert [record.reused for record in proxy.ended(4)] == [False, True, True, True]
        stats = proxy.backends[0].stats
        assert (stats.connects, stats.reuses) == (1, 3)
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


def test_pipelined_requests_are_answered_in_order(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/1") + post(b"body of 2", "/2") + get("/3") + get("/4")[:20])
        server = played.accept()
        for number in (b"1", b"2", b"3"):
            asked = read_request(server)
            assert asked.head.target == b"/" + number
            assert asked.body == (b"body of 2" if number == b"2" else b"")
            server.send(ok(b"answer " + number))
            assert read_response(client).body == b"answer " + number
        client.send(get("/4")[20:])
        assert read_head(server).target == b"/4"
        assert not played.waiting()


def test_a_pipelined_request_is_not_sent_before_the_answer_to_the_one_before_it(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/1") + get("/2"))
        server = played.accept()
        assert read_head(server).target == b"/1"
        server.send(ok()[:-1])
        gevent.sleep(0)
        assert not played.waiting()
        server.send(ok()[-1:])
        assert read_head(server).target == b"/2"


@pytest.mark.parametrize("size", [1, 7])
def test_a_request_that_comes_in_pieces(played: PlayedBackend, size: int) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        whole = post(b"a body", "/pieces")
        for start in range(0, len(whole), size):
            client.send(whole[start : start + size])
            gevent.sleep(0)
        server = played.accept()
        asked = read_request(server)
        assert (asked.head.target, asked.body) == (b"/pieces", b"a body")
        server.send(ok())
        assert read_response(client).status == 200


def test_an_empty_line_before_a_request_is_none_of_it(played: PlayedBackend) -> None:
    """RFC 9112 section 2.2."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(b"\r\n" + get("/1"))
        server = played.accept()
        assert read_head(server).target == b"/1"
        server.send(ok())
        assert read_response(client).status == 200
        client.send(b"\r\n")
        client.send(get("/2"))
        assert read_head(server).target == b"/2"


def test_an_empty_line_after_a_request_does_not_keep_the_session(played: PlayedBackend) -> None:
    """Old browsers send one after a POST. The session is idle then as before."""
    clock = FakeClock()
    with EmbeddedHttp(backend(played), upstream="client_idle_timeout: 60", clock=clock) as proxy:
        client = proxy.connect()
        client.send(post(b"x"))
        server = played.accept()
        read_request(server)
        server.send(ok())
        read_response(client)
        client.send(b"\r\n")
        client.wait_acknowledged()
        gevent.sleep(0.02)
        for _ in range(3):
            proxy.pass_time(clock, 60)
        assert client.rest() == (b"", End.FIN)


def test_empty_lines_without_end_are_refused(played: PlayedBackend) -> None:
    """To take them off one by one, with a copy of the rest each time, would stop everybody else for long."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(b"\r\n" * 1000)
        assert read_response(client).status == 400
        assert proxy.codes() == ["PR"]


# --- the versions --------------------------------------------------------------------------


def test_http_1_0_closes_after_the_response(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get(minor=0))
        server = played.accept()
        assert read_head(server).start == b"GET / HTTP/1.1"
        server.send(ok())
        got = read_response(client)
        assert got.get("Connection") == b"close"
        assert client.rest() == (b"", End.FIN)
        (record,) = proxy.ended()
        assert (record.version, record.code) == (b"HTTP/1.0", "--")
        assert idle(proxy) == 1  # that is between gproxy and the backend


def test_http_1_0_with_keep_alive_goes_on(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/1", "Connection: keep-alive", minor=0))
        server = played.accept()
        read_head(server)
        server.send(ok())
        assert read_response(client).get("Connection") == b"keep-alive"
        client.send(get("/2", minor=0))
        assert read_head(server).target == b"/2"
        server.send(ok())
        assert read_response(client).get("Connection") == b"close"
        assert client.rest() == (b"", End.FIN)


def test_http_1_0_without_a_host_gets_our_address(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert read_head(played.accept()).get("Host") == "{}:{}".format(*proxy.worker.address("web")).encode()


@pytest.mark.parametrize("framing", ["chunked", "until close"])
def test_http_1_0_learns_of_an_unknown_length_by_the_close(played: PlayedBackend, framing: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/", "Connection: keep-alive", minor=0))
        server = played.accept()
        read_head(server)
        if framing == "chunked":
            server.send(response("200 OK", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
        else:
            server.send(response("200 OK", body=b"abcde"))
            server.finish()
        head = read_head(client)
        assert head.get("Transfer-Encoding") is None
        assert head.get("Content-Length") is None
        assert head.get("Connection") == b"close"
        assert client.rest() == (b"abcde", End.FIN)


def test_http_1_0_never_sees_a_transfer_coding(played: PlayedBackend) -> None:
    """RFC 9112 section 6.1: not even in the answer to HEAD."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(request("HEAD", minor=0))
        server = played.accept()
        read_head(server)
        server.send(response("200 OK", "Transfer-Encoding: chunked"))
        assert read_head(client).get("Transfer-Encoding") is None


def test_connection_close_of_the_client_ends_the_session(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/", "Connection: close") + get("/never"))
        server = played.accept()
        assert read_head(server).get("Connection") is None
        server.send(ok())
        assert read_response(client).get("Connection") == b"close"
        assert client.rest() == (b"", End.FIN)
        assert proxy.closed() == {"normal": 1}
        assert len(proxy.ended()) == 1


# --- targets -------------------------------------------------------------------------------


def test_an_absolute_target_becomes_a_path(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("http://other.example:81/a?b", "Host: app.example"))
        server = played.accept()
        head = read_head(server)
        assert head.start == b"GET /a?b HTTP/1.1"
        assert head.get("Host") == b"other.example:81"
        server.send(ok())
        read_response(client)
        assert proxy.ended()[0].target == b"http://other.example:81/a?b"  # as it came


def test_options_for_the_server_as_a_whole(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(request("OPTIONS", "*"))
        server = played.accept()
        assert read_head(server).start == b"OPTIONS * HTTP/1.1"
        server.send(response("204 No Content"))
        assert read_response(client).status == 204


def test_a_method_nobody_has_heard_of(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(request("BREW", "/pot"))
        server = played.accept()
        assert read_head(server).start == b"BREW /pot HTTP/1.1"
        server.send(ok())
        assert read_response(client).status == 200


# --- rest between requests --------------------------------------------------------------------


def busy_greenlets(proxy: EmbeddedHttp) -> int:
    """Those of sessions: neither gevent's own, nor one that rests for the next session."""
    gc.collect()
    bare = [thing for thing in gc.get_objects() if type(thing) is greenlet and not thing.dead]
    return len(bare) - len(proxy.service.server.greenlets._resting)


def test_an_idle_session_holds_no_greenlet(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        first = proxy.connect()
        first.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok())
        read_response(first)
        eventually(lambda: resting(proxy))
        before = busy_greenlets(proxy)
        clients = [proxy.connect() for _ in range(10)]
        for client in clients:
            serve(client, server)
        eventually(lambda: all(session.greenlet is None for session in proxy.sessions))
        eventually(lambda: busy_greenlets(proxy) == before)
        serve(clients[0], server)


def test_a_client_that_leaves_between_requests_is_no_news(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok())
        read_response(client)
        client.close()
        assert proxy.closed() == {"normal": 1}
        assert len(proxy.ended()) == 1
        assert idle(proxy) == 1


def test_a_reset_between_requests_is_no_news_either(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok())
        read_response(client)
        eventually(lambda: resting(proxy))
        client.reset()
        assert proxy.closed() == {"normal": 1}
        assert len(proxy.ended()) == 1


def test_a_client_that_connects_and_leaves_is_no_news(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        proxy.connect().close()
        assert proxy.closed() == {"normal": 1}
        assert proxy._records.ended == []


# --- a client that ends its half ----------------------------------------------------------------


@pytest.mark.parametrize("asked", [get(), post(b"body")], ids=["GET", "POST"])
def test_a_client_that_has_finished_still_gets_its_response(played: PlayedBackend, asked: bytes) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(asked)
        client.finish()
        server = played.accept()
        read_request(server)
        gevent.sleep(0.02)  # so that the FIN is seen
        server.send(ok())
        assert read_response(client).body == b"ok"
        assert client.rest() == (b"", End.FIN)
        assert proxy.codes() == ["--"]
        assert proxy.closed() == {"normal": 1}
        assert idle(proxy) == 1


def test_pipelined_requests_before_a_fin_are_all_answered(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/1") + get("/2"))
        client.finish()
        server = played.accept()
        for target in (b"/1", b"/2"):
            assert read_head(server).target == target
            server.send(ok(target))
            assert read_response(client).body == target
        assert client.rest() == (b"", End.FIN)


@pytest.mark.parametrize("how", [Peer.finish, Peer.reset], ids=["FIN", "RST"])
def test_a_client_that_leaves_amid_a_head(played: PlayedBackend, how: Any) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get()[:-2])
        client.wait_acknowledged()
        gevent.sleep(0.02)
        how(client)
        (record,) = proxy.ended()
        assert (record.code, record.status, record.method, record.backend) == ("CR", 0, b"", "")
        assert (record.upstream, record.tr, record.tw, record.tresp) == ("", None, None, None)
        assert proxy.closed() == {"CR": 1}
        assert not played.waiting()


# --- drains and kills ------------------------------------------------------------------------------


def draining(proxy: EmbeddedHttp) -> Any:
    started = gevent.spawn(proxy.worker.drain, TIMEOUT)
    eventually(lambda: proxy.service.draining)
    return started


def test_a_drain_ends_idle_sessions_at_once(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok())
        read_response(client)
        eventually(lambda: resting(proxy))
        drain = draining(proxy)
        assert client.rest() == (b"", End.FIN)
        assert drain.get() is True
        assert proxy.closed() == {"normal": 1}


def test_a_drain_lets_a_request_be_answered_and_says_that_it_was_the_last(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        drain = draining(proxy)
        server.send(ok())
        assert read_response(client).get("Connection") == b"close"
        assert client.rest() == (b"", End.FIN)
        assert drain.get() is True


def test_a_drain_amid_a_response_ends_the_session_behind_it(played: PlayedBackend) -> None:
    """Its head is with the client already and promised that the connection lives on; nobody relies on that."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok(b"hello")[:-2])
        read_head(client)
        drain = draining(proxy)
        server.send(b"lo")
        assert client.rest() == (b"hello", End.FIN)
        assert drain.get() is True


def test_a_drain_does_not_wait_for_a_client_that_has_sent_nothing(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        eventually(lambda: proxy.sessions)
        drain = draining(proxy)
        assert client.rest() == (b"", End.FIN)
        assert drain.get() is True


def test_a_drain_lets_pipelined_requests_fall(played: PlayedBackend) -> None:
    """Only what was begun is answered; the client sees `Connection: close` and asks elsewhere."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/1") + get("/2"))
        server = played.accept()
        read_head(server)
        drain = draining(proxy)
        server.send(ok())
        assert read_response(client).get("Connection") == b"close"
        assert client.rest() == (b"", End.FIN)
        assert drain.get() is True
        assert len(proxy.ended()) == 1


def test_a_session_killed_while_its_backend_works(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        proxy.sessions[0].end(Ended.KILLED)
        assert read_response(client).status == 503
        assert server.rest()[0] == b""
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("KD", 503)
        assert borrowed(proxy) == idle(proxy) == 0


def test_a_session_killed_amid_its_response(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok(b"hello")[:-2])
        read_head(client)
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest()[1] is End.RESET
        assert server.rest()[0] == b""
        (record,) = proxy.ended()
        assert (record.code, record.status) == ("KD", 200)
        assert borrowed(proxy) == 0


def test_a_session_killed_while_it_uploads_twice_over(played: PlayedBackend) -> None:
    """As a shutdown may do it. The connection's slot must come back all the same."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(post(bytes(1000))[:-500])
        server = played.accept()
        read_head(server)
        server.receive(500)
        (session,) = proxy.sessions
        session.end(Ended.KILLED)
        session.end(Ended.KILLED)
        assert client.rest()[1] is End.FIN
        assert proxy.codes() == ["KD"]
        assert borrowed(proxy) == 0
        assert server.rest()[0] == b""


def test_an_idle_session_that_is_killed_ends_in_order(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok())
        read_response(client)
        eventually(lambda: resting(proxy))
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest() == (b"", End.FIN)
        assert proxy.closed() == {"normal": 1}


def test_an_idle_session_can_be_killed_after_an_empty_line(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_head(server)
        server.send(ok())
        read_response(client)
        client.send(b"\r\n")
        client.wait_acknowledged()
        gevent.sleep(0.02)
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest() == (b"", End.FIN)


def test_a_client_that_has_sent_nothing_is_told_nothing(played: PlayedBackend) -> None:
    """It would take an answer for the one to its first request."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        eventually(lambda: proxy.sessions)
        gevent.sleep(0)
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest()[0] == b""
        assert proxy._records.ended == []


# --- what is counted, and what is left -----------------------------------------------------------


def test_requests_and_responses_are_counted(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        server = None
        for start in ("200 OK", "204 No Content", "302 Found", "404 Not Found", "500 Oh"):
            client.send(get())
            server = server or played.accept()
            read_head(server)
            server.send(response(start, *(() if start.startswith("204") else ("Content-Length: 0",))))
            assert read_response(client).head.start == f"HTTP/1.1 {start}".encode()
        client.send(b"\0")
        assert read_response(client).status == 400
        proxy.ended(6)
        counters = proxy.worker.metrics.snapshot().counters
        assert counters["requests.web"] == 6
        assert [counters[f"responses.web.{n}xx"] for n in (1, 2, 3, 4, 5)] == [0, 2, 1, 2, 1]
        assert sum(proxy.worker.metrics.response_time.counts()) == 5
        assert proxy.counted(Slot.CONNECTIONS_ACCEPTED) == 1
        assert proxy.counted(Slot.BYTES_IN) == sum(record.bytes_in for record in proxy.ended(6))
        assert proxy.counted(Slot.BYTES_OUT) == sum(record.bytes_out for record in proxy.ended(6))


def test_words_for_an_operator(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get("/where"))
        read_head(played.accept())
        (session,) = proxy.sessions
        address = "{}:{}".format(*client.sock.getsockname())
        assert repr(session) == f"<HttpSession {address} waiting for a response's head>"
        assert repr(session.exchange) == "<Exchange b'GET' b'/where' 0>"


def test_unix_sockets_on_both_sides(tmp_path: Any) -> None:
    with (
        PlayedBackend(tmp_path / "app.sock") as played,
        EmbeddedHttp(backend(played), bind=f"unix:{tmp_path}/web.sock") as proxy,
    ):
        client = proxy.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        server = played.accept()
        head = read_head(server)
        assert head.get("Host") == b"localhost"
        assert head.get("X-Forwarded-For") is None
        server.send(ok())
        assert read_response(client).body == b"ok"
        assert client.rest() == (b"", End.FIN)
        assert proxy.ended()[0].client == "unix:"


def garbage() -> list[str]:
    """The kinds of our objects that only the garbage collector can end."""
    flags = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = [type(thing).__qualname__ for thing in gc.garbage if type(thing).__module__.startswith("gproxy")]
    finally:
        gc.garbage.clear()
        gc.set_debug(flags)
    return kinds


@pytest.mark.parametrize("how", ["idle", "client resets", "backend dies", "bad request", "tunnel", "upload", "killed"])
def test_nothing_is_left_for_the_garbage_collector(how: str) -> None:
    with PlayedBackend() as played, EmbeddedHttp(backend(played), upstream="pool: {max_uses: 1}") as proxy:

        def session() -> None:
            client = proxy.connect()
            if how == "bad request":
                client.send(b"\0")
                client.rest()
                client.close()
                return
            upgrade = ("Connection: upgrade", "Upgrade: x")
            client.send(post(b"12345")[:-2] if how == "upload" else get("/", *(upgrade if how == "tunnel" else ())))
            server = played.accept()
            read_head(server)
            if how == "tunnel":
                server.send(response("101 Switching Protocols", *upgrade))
                read_response(client)
                client.close()
            elif how == "killed":
                proxy.sessions[0].end(Ended.KILLED)
                client.rest()
            elif how == "client resets":
                client.reset()
            elif how == "backend dies":
                server.reset()
                client.rest()
            else:
                if how == "upload":
                    client.send(b"45")
                server.send(ok())
                read_response(client)
            client.close()
            server.close()

        session()
        proxy.closed()
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                session()
            proxy.closed(4)
            eventually(lambda: not proxy.sessions)
            assert garbage() == []
        finally:
            gc.enable()
