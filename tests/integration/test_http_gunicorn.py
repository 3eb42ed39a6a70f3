"""Backends that close what was idle for 2 seconds, and clients that come back after just about that time.

A request that is sent in the moment of the closing is lost, and a POST must not be sent again: so gproxy
must not lend a connection that is about to be closed.
"""

import os
import random
import select
import socket
import threading
import time
from collections import Counter

import pytest

from tests.support.ends import TIMEOUT, reset
from tests.support.http_origin import HttpOrigin, respond
from tests.support.http_wire import NotHttp, Wire, read_body, read_request_head, read_response, request_framing
from tests.support.proxy import Gproxy
from tests.support.web_servers import Gunicorn

pytestmark = pytest.mark.xdist_group("load")

CONFIG = """
listeners: [{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {health_check: {type: none}, pool: {size: 20}, backends: [{name: b1, address: "${B1}"}]}}
"""
SEED = int(os.environ.get("GPROXY_TEST_SEED") or random.randrange(1 << 32))
CLIENTS = 16  # that pause, and come back all at once
BUSY = 2  # that don't pause
ROUNDS = 6
KEEP_ALIVE = 2.0  # seconds: gunicorn's default
ABOUT = 0.1


class Client(threading.Thread):
    """`pause` waits before each of its requests."""

    def __init__(self, proxy: Gproxy, number: int):
        super().__init__(name=f"client {number}")
        self.statuses: Counter[tuple[str, int | None]] = Counter()
        self._proxy = proxy
        self._random = random.Random(f"{SEED} {number}")
        self._wire: Wire | None = None

    def run(self) -> None:
        while self.pause():
            for _ in range(self._random.randint(1, 3)):
                self._ask(self._random.choice([b"GET", b"POST"]))
        self._drop()

    def pause(self) -> bool:
        """False when it was the last one."""
        raise NotImplementedError

    def _ask(self, method: bytes) -> None:
        body = b"" if method == b"GET" else b"x" * self._random.choice([1, 1000, 50_000])
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        status = None
        try:
            wire = self._wire = self._wire or Wire(self._proxy.connect("web", TIMEOUT))
            wire.sock.sendall(b"%s /digest HTTP/1.1\r\nHost: app\r\n%s\r\n" % (method, length) + body)
            response = read_response(wire)
            status = response.status if response and response.whole else None
        except (NotHttp, OSError):
            pass
        if status != 200:
            self._drop()
        self.statuses[method.decode(), status] += 1

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.sock.close()
            self._wire = None


class PausingClient(Client):
    """Comes back with all the others."""

    def __init__(self, proxy: Gproxy, number: int, together: threading.Barrier):
        super().__init__(proxy, number)
        self._together = together

    def pause(self) -> bool:
        try:
            self._together.wait(TIMEOUT)
        except threading.BrokenBarrierError:
            return False
        return True


class BusyClient(Client):
    """Load."""

    def __init__(self, proxy: Gproxy, number: int, over: threading.Event):
        super().__init__(proxy, number)
        self._over = over

    def pause(self) -> bool:
        return not self._over.wait(0.01)


def test_gunicorn_closing_its_idle_connections_costs_no_request(tmp_path):
    print(f"GPROXY_TEST_SEED={SEED}")
    pauses = random.Random(SEED)
    with Gunicorn(tmp_path, "gthread") as server, Gproxy(tmp_path, CONFIG, environ={"B1": server.address}) as proxy:
        together, over = threading.Barrier(CLIENTS + 1), threading.Event()
        clients: list[Client] = [PausingClient(proxy, number, together) for number in range(CLIENTS)]
        clients += [BusyClient(proxy, CLIENTS + number, over) for number in range(BUSY)]
        for client in clients:
            client.start()
        for _ in range(ROUNDS):
            together.wait(TIMEOUT)
            time.sleep(pauses.uniform(KEEP_ALIVE - ABOUT, KEEP_ALIVE + ABOUT))
        together.abort()
        over.set()
        for client in clients:
            client.join()
        statuses = sum((client.statuses for client in clients), Counter())
        assert statuses.keys() == {("GET", 200), ("POST", 200)}, statuses
        assert sum(statuses.values()) >= CLIENTS * ROUNDS
        assert any(" reused " in line for line in proxy.access())
        assert "Traceback" not in proxy.log()


class ClosingOrigin(HttpOrigin):
    """Closes what was idle for KEEP_ALIVE seconds. A request that comes just before is too late: it is reset."""

    too_late = 0

    def converse(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        while head := read_request_head(wire):
            read_body(wire, request_framing(head), bytearray())
            connection.sendall(respond(head.method, b"well"))
            since = time.monotonic()
            if not select.select([connection], [], [], KEEP_ALIVE)[0]:
                return
            if time.monotonic() - since > KEEP_ALIVE - ABOUT and connection.recv(1, socket.MSG_PEEK):
                self.too_late += 1
                reset(connection)
                return


def post(wire: Wire) -> int | None:
    wire.sock.sendall(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\nx")
    response = read_response(wire)
    return response.status if response else None


def test_a_connection_is_not_lent_shortly_before_its_backend_was_seen_to_close_it(tmp_path):
    with ClosingOrigin("b1") as origin, Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        with proxy.connect("web", TIMEOUT) as client:
            wire = Wire(client)
            told = [post(wire)]
            for pause in (KEEP_ALIVE + 0.3, KEEP_ALIVE - ABOUT / 2, KEEP_ALIVE - ABOUT / 2):
                time.sleep(pause)
                told.append(post(wire))
        assert (told, origin.too_late) == ([200] * 4, 0)
        assert "Traceback" not in proxy.log()
