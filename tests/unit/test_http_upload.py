"""Request bodies on their way through an http listener, in process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gproxy.net import lowwater
from gproxy.net.lowwater import LowWaterMark
from gproxy.net.stream import READ_SIZE
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
from tests.support.loopback import End, Peer, PlayedBackend, mark_of
from tests.support.poll import eventually

LARGE = bytes(range(256)) * 40_000  # 10 MB


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def started(proxy: EmbeddedHttp, played: PlayedBackend, what: bytes) -> tuple[Peer, Peer]:
    """A client that has sent this much, and the backend that has read the head."""
    client = proxy.connect()
    client.send(what)
    server = played.accept()
    read_head(server)
    return client, server


def uploading(length: int = 1000, sent: int = 500) -> bytes:
    """A request and a part of its body."""
    return post(bytes(length))[: sent - length]


CHUNKED = request("POST", "/", "Transfer-Encoding: chunked")


# --- bodies of every framing ----------------------------------------------------------------


def test_a_body_that_came_with_its_head_leaves_with_it(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(post(b"a body"))
        server = played.accept()
        assert read_request(server).body == b"a body"
        server.send(ok())
        read_response(client)
        (record,) = proxy.ended()
        assert record.bytes_in == len(post(b"a body"))
        serve(client, server)


def test_a_body_that_comes_later(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = started(proxy, played, post(b"a body")[:-6])
        client.send(b"a b")
        assert server.receive(3) == b"a b"
        client.send(b"ody" + get("/next"))
        assert server.receive(3) == b"ody"
        server.send(ok())
        read_response(client)
        assert read_head(server).target == b"/next"


def test_a_body_of_no_length(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(post(b""))
        server = played.accept()
        assert read_head(server).get("Content-Length") == b"0"
        server.send(ok())
        read_response(client)
        serve(client, server)


def test_a_chunked_body_with_trailers_and_extensions(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        body = b'3;a="b"\r\nabc\r\nA ; c\r\n0123456789\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n'
        client.send(CHUNKED + body)
        server = played.accept()
        asked = read_request(server)
        assert (asked.body, asked.trailers) == (b"abc0123456789", [(b"X-Sum", b"7")])
        server.send(ok())
        read_response(client)
        assert proxy.ended()[0].bytes_in == len(CHUNKED) + 13
        serve(client, server)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_body(played: PlayedBackend, framing: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE)
        sending = gevent.spawn(client.send, post(LARGE) if framing == "length" else CHUNKED + chunks)
        server = played.accept()
        assert read_request(server).body == LARGE
        sending.get()
        server.send(ok())
        assert read_response(client).status == 200
        (record,) = proxy.ended()
        assert record.code == "--"
        assert record.bytes_in >= len(LARGE)
        serve(client, server)


def test_a_large_body_is_read_in_large_pieces_while_it_is_fast(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, left, stopped_by = [], [], []

    class Seen(LowWaterMark):
        def moved(self, still_to_come: int) -> None:
            super().moved(still_to_come)
            left.append(still_to_come)

        def _set(self, mark: int) -> None:
            super()._set(mark)
            marks.append(mark_of(self._stream.sock))

        def stop(self) -> None:
            super().stop()
            stopped_by.append(gevent.getcurrent())

    monkeypatch.setattr("gproxy.http.upload.LowWaterMark", Seen)
    monkeypatch.setattr(lowwater, "FAST", (READ_SIZE, 3600.0))
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = started(proxy, played, post(LARGE)[: -len(LARGE)])
        most, rest = LARGE[:-10], LARGE[-10:]
        sending = gevent.spawn(client.send, most)
        assert server.receive(len(most)) == most
        sending.get()
        client.send(rest)
        assert server.receive(10) == rest
        server.send(ok())
        read_response(client)
        assert max(marks) >= lowwater.LEAST
        assert (marks[-1], left[-1]) == (1, 0)
        assert stopped_by[-1] is not gevent.get_hub()  # which does that at a tick without bytes
        serve(client, server)


def test_a_backend_that_does_not_read_stops_the_client(played: PlayedBackend) -> None:
    """What is under way is in the kernel's buffers and in one of ours."""
    with EmbeddedHttp(backend(played)) as proxy:
        client, _ = started(proxy, played, post(LARGE)[: -len(LARGE)].replace(b"10240000", b"1024000000"))
        sent = 0

        def send() -> None:
            nonlocal sent
            while True:
                client.send(LARGE)
                sent += len(LARGE)

        sending = gevent.spawn(send)
        (session,) = proxy.sessions
        eventually(lambda: session.backend_stream.wants_room)
        gevent.sleep(0.05)
        assert sent <= 3 * len(LARGE)
        assert session.client.moved - session.backend_stream.moved < 2 << 20
        sending.kill()


# --- 100-continue -----------------------------------------------------------------------------


def test_a_client_that_waits_for_100(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(request("POST", "/", "Content-Length: 4", "Expect: 100-continue"))
        server = played.accept()
        assert read_head(server).get("Expect") == b"100-continue"
        server.send(response("100 Continue"))
        assert read_head(client).start == b"HTTP/1.1 100 Continue"
        client.send(b"body")
        assert server.receive(4) == b"body"
        server.send(ok())
        assert read_response(client).status == 200
        serve(client, server)


@pytest.mark.parametrize("status", ["417 Expectation Failed", "401 Unauthorized"])
def test_a_client_that_waits_for_100_and_gets_a_final_answer(played: PlayedBackend, status: str) -> None:
    """It may send its body or another request now: nobody could tell which, so that the connection ends."""
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(request("POST", "/", "Content-Length: 4", "Expect: 100-continue"))
        server = played.accept()
        read_head(server)
        server.send(response(status, "Content-Length: 0"))
        got = read_response(client)
        assert (got.head.start, got.get("Connection")) == (f"HTTP/1.1 {status}".encode(), b"close")
        assert client.rest() == (b"", End.FIN)
        assert server.rest()[0] == b""
        assert idle(proxy) == borrowed(proxy) == 0
        assert proxy.codes() == ["--"]


def test_an_expectation_of_something_else(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(post(b"body", "/", "Expect: a-miracle"))
        assert read_response(client).status == 417
        assert proxy.codes() == ["PR"]
        assert not played.waiting()


# --- early responses ------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_early_response_reaches_the_client_that_still_sends(played: PlayedBackend, framing: str) -> None:
    """The connection is closed in order: by a reset the client might lose the response."""
    with EmbeddedHttp(backend(played)) as proxy:
        head = uploading(len(LARGE), 0) if framing == "length" else CHUNKED + b"%x\r\n" % len(LARGE)
        client, server = started(proxy, played, head + LARGE[:1000])
        server.receive(1000)
        server.send(response("401 Unauthorized", "Content-Length: 2", body=b"no"))
        got = read_response(client)
        assert (got.status, got.get("Connection"), got.body) == (401, b"close", b"no")
        for _ in range(20):  # more than the kernel keeps of a connection that nobody reads
            client.send(LARGE[:20_000])
            gevent.sleep(0)
        assert client.rest() == (b"", End.FIN)
        server.rest()
        assert idle(proxy) == borrowed(proxy) == 0
        (record,) = proxy.ended()
        assert (record.status, record.code) == (401, "--")


def test_a_client_keeps_sending_while_a_long_early_response_comes(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = started(proxy, played, uploading(1000, 500))
        server.receive(500)
        server.send(ok(b"0123456789")[:-5])
        read_head(client)
        assert client.receive(5) == b"01234"
        client.send(bytes(500))
        assert server.receive(500) == bytes(500)
        server.send(b"56789")
        assert client.receive(5) == b"56789"
        assert client.rest() == (b"", End.FIN)  # as its head said
        assert idle(proxy) == 1  # both ends of it are where they should be


def test_a_backend_that_answers_and_resets_is_heard(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = started(proxy, played, uploading(len(LARGE), 0))
        server.send(response("413 Too Much", "Content-Length: 0", "Connection: close"))
        server.close()
        with contextlib.suppress(OSError):
            client.send(LARGE[:100_000])
        assert read_response(client).status == 413


# --- limits -------------------------------------------------------------------------------------------


def test_a_body_that_announces_too_much_is_never_sent(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="max_body: 10") as proxy:
        client = proxy.connect()
        client.send(post(b"0123456789"))
        server = played.accept()
        read_request(server)
        server.send(ok())
        assert read_response(client).status == 200
        client.send(post(b"0123456789a"))
        assert read_response(client).status == 413
        assert client.rest() == (b"", End.FIN)
        record = proxy.ended(2)[1]
        assert (record.code, record.status, record.method) == ("PR", 413, b"POST")


def test_a_chunked_body_that_is_too_long_from_the_start(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="max_body: 10") as proxy:
        client = proxy.connect()
        client.send(CHUNKED + b"b\r\n0123456789a\r\n0\r\n\r\n")
        assert read_response(client).status == 413
        assert not played.waiting()
        assert proxy.codes() == ["PR"]


def test_a_chunked_body_that_grows_too_long(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="max_body: 10") as proxy:
        client, server = started(proxy, played, CHUNKED + b"6\r\n012345\r\n")
        assert read_line(server) == b"6"
        client.send(b"6\r\n678901\r\n")
        assert read_response(client).status == 413
        assert client.rest() == (b"", End.FIN)
        assert b"0\r\n\r\n" not in server.rest()[0]  # it must not take that for all
        assert proxy.codes() == ["PR"]
        assert borrowed(proxy) == idle(proxy) == 0


def test_a_chunked_body_that_turns_into_garbage(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = started(proxy, played, CHUNKED + b"3\r\nabc\r\n")
        client.send(b"zz\r\n")
        assert read_response(client).status == 400
        assert server.rest()[0] == b"3\r\nabc\r\n"
        assert proxy.codes() == ["PR"]
        assert borrowed(proxy) == idle(proxy) == 0


# --- clients that leave amid their body --------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", [Peer.finish, Peer.reset], ids=["FIN", "RST"])
def test_a_client_that_leaves_amid_its_body(played: PlayedBackend, framing: str, how: Any) -> None:
    with EmbeddedHttp(backend(played), backend("127.0.0.1:1", "backup: true")) as proxy:
        client, server = started(proxy, played, uploading() if framing == "length" else CHUNKED + b"5\r\nabc")
        if framing == "length":
            server.receive(500)
        how(client)
        data, _ = server.rest()
        assert not data.endswith(b"0\r\n\r\n")
        (record,) = proxy.ended()
        assert record.code == "CH"
        assert record.retries == 0
        assert borrowed(proxy) == idle(proxy) == 0
        assert proxy.backends[0].stats.connect_failures == 0


# --- what is sent again, and what is not --------------------------------------------------------------------


def dead_reuse(proxy: EmbeddedHttp, played: PlayedBackend) -> Peer:
    """The backend's end of an idle connection."""
    client, server = started(proxy, played, get())
    server.send(ok())
    read_response(client)
    client.close()
    eventually(lambda: idle(proxy) == 1)
    return server


def put(length: int) -> bytes:
    return request("PUT", "/", f"Content-Length: {length}")


def test_the_part_of_a_body_that_was_sent_is_sent_again(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        server = dead_reuse(proxy, played)
        client = proxy.connect()
        client.send(put(60_000) + LARGE[:40_000])
        read_head(server)
        assert server.receive(40_000) == LARGE[:40_000]
        server.close()
        fresh = played.accept()
        read_head(fresh)
        assert fresh.receive(40_000) == LARGE[:40_000]
        client.send(LARGE[40_000:60_000])
        assert fresh.receive(20_000) == LARGE[40_000:60_000]
        fresh.send(ok())
        assert read_response(client).status == 200
        _, record = proxy.ended(2)
        assert record.bytes_in == len(put(60_000)) + 60_000


def test_a_chunked_body_is_sent_again(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        server = dead_reuse(proxy, played)
        client = proxy.connect()
        client.send(request("PUT", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        read_head(server)
        assert server.receive(8) == b"3\r\nabc\r\n"
        server.close()
        fresh = played.accept()
        read_head(fresh)
        assert fresh.receive(8) == b"3\r\nabc\r\n"
        client.send(b"0\r\n\r\n")
        assert fresh.receive(5) == b"0\r\n\r\n"
        fresh.send(ok())
        assert read_response(client).status == 200


def test_a_body_that_is_no_longer_at_hand_is_not_sent_again(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        server = dead_reuse(proxy, played)
        client = proxy.connect()
        client.send(put(200_000))
        read_head(server)
        client.send(LARGE[:100_000])
        assert server.receive(100_000) == LARGE[:100_000]
        server.close()
        with contextlib.suppress(OSError):
            client.send(LARGE[100_000:200_000])
        assert read_response(client).status == 502
        assert not played.waiting()
