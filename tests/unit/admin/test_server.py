"""The server's bounds, on real sockets."""

import logging
import socket
from types import SimpleNamespace

import gevent
import gevent.socket
import pytest
from gevent.event import Event

from gproxy.admin import server as module
from gproxy.admin.server import AdminServer
from gproxy.admin.streams import Streams
from gproxy.core.address import Address
from gproxy.core.settings import AdminSettings
from gproxy.net.connection import Endpoint
from gproxy.net.listener import listen
from tests.support.poll import eventually, let_the_hub_run

TIMEOUT = 20.0  # seconds
MUCH = 1_000_000  # bytes of an event


def make_desk():
    """With streams that tell a number, and more of nothing each time."""
    return SimpleNamespace(
        streams=Streams(lambda place: ((place[0] + 1 if place else 1, 0), {"n": place, "x": "x" * MUCH}))
    )


@pytest.fixture
def serve(monkeypatch):
    """Starts a server; where it listens."""
    servers = []

    def start():
        sock = listen(Endpoint(gevent.socket.AF_INET, ("127.0.0.1", 0)), 16)
        address = sock.getsockname()
        servers.append(AdminServer(AdminSettings(bind=Address("127.0.0.1", address[1])), [sock], make_desk()))
        servers[-1].start()
        return address

    start.servers = servers
    yield start
    monkeypatch.setattr(module, "_LAST_ANSWERS", 0.01)
    for server in servers:
        server.stop()


def talk(address, data):
    """All that comes back."""
    with gevent.socket.create_connection(address, TIMEOUT) as client:
        client.sendall(data)
        answer = b""
        try:
            while piece := client.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def request(address, more=b"Connection: close\r\n"):
    return b"GET /v1/log HTTP/1.1\r\nHost: localhost:%d\r\n%s\r\n" % (address[1], more)


@pytest.mark.parametrize("sent", [b"", b"GET /v1/log HTTP/1.1\r\nHost: local", b"PUT /v1/log HTTP/1.1\r\n"])
def test_a_client_that_does_not_go_on_is_left(serve, monkeypatch, sent):
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    assert talk(serve(), sent) == b""


def test_a_client_that_asks_nothing_more_is_left(serve, monkeypatch):
    answer = module.App.__call__

    def impatiently(*arguments):
        monkeypatch.setattr(module, "_PATIENCE", 0.05)  # for the request after this one
        return answer(*arguments)

    monkeypatch.setattr(module.App, "__call__", impatiently)
    address = serve()
    assert talk(address, request(address, b"")).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_that_takes_too_long_is_cut_off_without_a_traceback(serve, monkeypatch, capfd):
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    monkeypatch.setattr(module.App, "__call__", lambda *_: gevent.sleep(3600))
    address = serve()
    assert talk(address, request(address)) == b""
    assert capfd.readouterr().err == ""


def test_no_more_clients_than_that(serve, monkeypatch):
    """Who comes beyond waits until another leaves."""
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 2)
    address = serve()
    idle = [gevent.socket.create_connection(address, TIMEOUT) for _ in range(2)]
    third = gevent.spawn(talk, address, request(address))
    let_the_hub_run()
    assert not third.ready()
    idle.pop().close()
    assert third.get(timeout=TIMEOUT).startswith(b"HTTP/1.1 200 OK\r\n")
    idle.pop().close()


@pytest.mark.parametrize(
    "more",
    [b"A: b\r\n" * 200, b"A: %s\r\n" % (b"b" * 100_000), b"Content-Length: x\r\n"],
    ids=["too many fields", "too long a field", "no length"],
)
def test_a_head_that_is_none_is_400_and_no_news(serve, capfd, caplog, more):
    address = serve()
    assert talk(address, request(address, more)).startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr().err == ""
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("version", [b"HTTP/1", b"HTTP/", b"HTTP/1.", b"HTTP/2.0", b"HTTP/1.x", b"HTTPS"])
def test_a_version_that_is_none_is_400_and_no_news(serve, capfd, version):
    assert talk(serve(), b"GET /v1/log %s\r\n\r\n" % version).startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("start", "status"), [(b"GET /nowhere", 404), (b"GET /v1/log", 200), (b"PUT /v1/log", 400)])
@pytest.mark.parametrize("body", [b"\r\n", b";a\r\n{}", b"2\r\n{}\r\n\r\n", b"x\r\n", b"5\r\n{}"])
def test_chunks_that_are_none_are_no_news(serve, capfd, caplog, start, status, body):
    address = serve()
    head = request(address, b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")
    with gevent.socket.create_connection(address, TIMEOUT) as client:
        client.sendall(head.replace(b"GET /v1/log", start) + body)
        client.shutdown(gevent.socket.SHUT_WR)
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    let_the_hub_run()
    assert capfd.readouterr().err == ""
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_the_end_waits_for_answers_and_for_nobody_idle(serve, monkeypatch):
    """Within bounds that this test does not reach."""
    monkeypatch.setattr(module, "_LAST_ANSWERS", 3600)
    go, asked = Event(), Event()
    answer = module.App.__call__

    def slowly(*arguments):
        asked.set()
        go.wait()
        return answer(*arguments)

    address = serve()
    idle = gevent.socket.create_connection(address, TIMEOUT)
    idle.sendall(request(address, b""))
    assert idle.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    monkeypatch.setattr(module.App, "__call__", slowly)
    client = gevent.spawn(talk, address, request(address))
    assert asked.wait(TIMEOUT)
    end = gevent.spawn(serve.servers[0].stop)
    let_the_hub_run()
    assert not end.ready()
    go.set()
    assert client.get(timeout=TIMEOUT).startswith(b"HTTP/1.1 200 OK\r\n")
    end.get(timeout=TIMEOUT)
    idle.close()


def test_who_is_answered_too_slowly_is_told_of_the_end(monkeypatch):
    monkeypatch.setattr(module, "_LAST_ANSWERS", 0.01)
    monkeypatch.setattr(module.App, "__call__", lambda *_: gevent.sleep(3600))
    sock = listen(Endpoint(gevent.socket.AF_INET, ("127.0.0.1", 0)), 16)
    address = sock.getsockname()
    server = AdminServer(AdminSettings(), [sock], make_desk())
    server.start()
    client = gevent.spawn(talk, address, request(address))
    eventually(lambda: "1 of" in repr(server))
    server.stop()
    assert client.get(timeout=TIMEOUT).startswith(b"HTTP/1.1 500 ")


# Streams.


def stream(address, room=None):
    """A client that asked for one, with so many bytes of room for what it does not read."""
    client = gevent.socket.socket()
    client.settimeout(TIMEOUT)
    if room is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.connect(address)
    client.sendall(request(address, b"").replace(b"/v1/log", b"/v1/stream"))
    return client


def read_event(client):
    """Up to the end of a chunk."""
    data = b""
    while not data.endswith(b"\n\n\r\n"):
        piece = client.recv(65536)
        assert piece, data[-100:]
        data += piece
    return data


def test_the_time_that_a_request_has_does_not_run_while_a_stream_waits(serve):
    address = serve()
    streams = serve.servers[0].desk.streams
    with stream(address) as client:
        assert read_event(client).startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        [handler] = serve.servers[0]._servers[0].handlers
        eventually(lambda: not handler._patience.pending)
        streams.ring()
        assert b"event: news" in read_event(client)


def test_who_does_not_read_a_stream_is_left(serve, monkeypatch, capfd):
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    address = serve()
    streams = serve.servers[0].desk.streams
    with stream(address, room=4096):
        eventually(lambda: "1 of" in repr(streams))

        def is_left():
            streams.ring()  # until all buffers are full
            return "0 of" in repr(streams)

        eventually(is_left, TIMEOUT)
    assert capfd.readouterr().err == ""


def test_who_goes_away_is_forgotten(serve):
    address = serve()
    streams = serve.servers[0].desk.streams
    with stream(address) as client:
        read_event(client)
        assert "1 of" in repr(streams)

    def is_forgotten():
        streams.ring()
        return "0 of" in repr(streams)

    eventually(is_forgotten, TIMEOUT)


def test_the_end_waits_for_no_stream(serve, monkeypatch):
    monkeypatch.setattr(module, "_LAST_ANSWERS", 3600)
    address = serve()
    with stream(address) as client:
        read_event(client)
        serve.servers[0].stop()
        assert client.recv(100) == b"0\r\n\r\n"  # in order


def test_the_head_of_a_stream_takes_no_place(serve):
    address = serve()
    sent = request(address).replace(b"GET /v1/log", b"HEAD /v1/stream")
    assert talk(address, sent).startswith(b"HTTP/1.1 200 OK\r\n")
    assert "0 of" in repr(serve.servers[0].desk.streams)


def test_a_page_of_another_site_gets_no_stream(serve):
    address = serve()
    sent = request(address, b"Sec-Fetch-Site: cross-site\r\nConnection: close\r\n").replace(b"/v1/log", b"/v1/stream")
    assert talk(address, sent).startswith(b"HTTP/1.1 403 ")
