"""Clients that dawdle, do not read, or leave in a crowd: rows of docs/reliability.md."""

import contextlib
import selectors
import socket
import time

import pytest

from tests.support.ends import TIMEOUT, reset, small_buffer
from tests.support.http_origin import Lie, Notes, RecordingOrigin, respond
from tests.support.http_wire import Wire, read_response
from tests.support.origin import Origin
from tests.support.poll import eventually

APP = 'app: {health_check: {type: none}, backends: [{name: b1, address: "${B1}"}], KEYS}'
MIB = 1 << 20
SLOW, DEAF, CROWD = 200, 20, 2000  # clients


@pytest.mark.fault("200 clients send their heads byte by byte (slowloris)")
def test_slowloris(faulty, reliability_row):
    root = "load_balancer: {request_head_timeout: 500ms}\n"
    app = APP.replace("KEYS", "retries: 2")
    with Origin("http", "b1") as b1, faulty(app, {"B1": b1.address}, root=root) as (proxy, bystander):
        baseline = proxy.descriptors()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect("web")) for _ in range(SLOW)]
            ended = dawdle(clients)
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer, _ in ended)
        eventually(lambda: proxy.descriptors() <= baseline, TIMEOUT, "their descriptors are back")
    reliability_row(
        sees="408",
        took=max(took for _, took in ended),
        bound="`request_head_timeout` 0.5 s for the whole head",
        others=bystander.verdict(),
        heals="each is closed at its time; `max_connections` bounds how many there are",
    )


def dawdle(clients):
    """Each sends another byte again and again, until it is answered; the answers, and when they came."""
    began, ended = time.monotonic(), []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nX: ")
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map():
            assert time.monotonic() < began + TIMEOUT, f"{len(selector.get_map())} are not closed"
            for key, _ in selector.select(0.05):
                selector.unregister(key.fileobj)
                ended.append((key.fileobj.recv(4096), time.monotonic() - began))
            for key in list(selector.get_map().values()):
                with contextlib.suppress(ConnectionError):
                    key.fileobj.sendall(b"y")
    return ended


@pytest.mark.fault("20 clients do not read their large responses")
def test_slow_readers(faulty, reliability_row):
    notes = Notes(lies={b"/": Lie(respond(b"GET", bytes(16 * MIB)))})
    app = APP.replace("KEYS", "stall_timeout: 500ms")
    with RecordingOrigin("b1", notes) as b1, faulty(app, {"B1": b1.address}) as (proxy, bystander):
        before, baseline = proxy.rss(), proxy.descriptors()
        with contextlib.ExitStack() as stack:
            began = time.monotonic()
            for _ in range(DEAF):
                client = stack.enter_context(small_buffer(socket.socket()))
                client.connect(proxy.address("web"))
                client.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            eventually(lambda: len(cut_off(proxy)) == DEAF, TIMEOUT, "each is reset")
            took = time.monotonic() - began
        assert proxy.rss() - before < 16 * MIB
        eventually(lambda: proxy.descriptors() <= baseline, TIMEOUT, "their descriptors are back")
    reliability_row(
        sees="what its buffer holds, and then a reset",
        took=took,
        bound="`stall_timeout` 0.5 s without a byte taken",
        others=bystander.verdict(),
        heals="each is closed at its time, and holds no more than a buffer until then",
    )


def cut_off(proxy):
    """The lines of clients that took no more."""
    return [line for line in proxy.access() if " web app/b1 " in line and " cD " in line]


@pytest.mark.xdist_group("heavy")
@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.fault("2,000 clients are gone at once")
def test_a_crowd_leaves(faulty, reliability_row):
    app = APP.replace("KEYS", "retries: 2")
    with Origin("http", "b1") as b1, faulty(app, {"B1": b1.address}) as (proxy, bystander):
        baseline = proxy.descriptors()
        clients = []
        for _ in range(CROWD):
            clients.append(proxy.connect("web"))
            clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            response = read_response(Wire(clients[-1]))
            assert response
            assert response.status == 200
        for client in clients[::10]:
            client.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")  # these leave amid a request
        assert proxy.descriptors() >= baseline + CROWD
        began = time.monotonic()
        for client in clients:
            reset(client)
        room = 10  # the pool's
        eventually(lambda: proxy.descriptors() <= baseline + room, TIMEOUT, "their descriptors are back")
        took = time.monotonic() - began
    reliability_row(
        sees="nothing any more",
        took=took,
        bound="until all descriptors are back",
        others=bystander.verdict(),
        heals="at once; a client that leaves is no failure of a backend",
    )
