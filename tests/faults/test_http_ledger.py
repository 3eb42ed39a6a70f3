"""Origins that die at every phase of an exchange, and a ledger of what they executed.

No POST is executed twice; no GET and no PUT fails that could be tried again.
"""

import contextlib
import hashlib
import os
import random
import socket
import threading

import pytest

from tests.support.ends import TIMEOUT
from tests.support.http_ledger import BEFORE_RESPONSE, BEGUN, EXECUTED, Ledger, LedgerOrigin
from tests.support.http_wire import NotHttp, Wire, read_response
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

pytestmark = pytest.mark.xdist_group("load")

CONFIG = """
log: {access: off}
listeners: [{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    retries: 2
    health_check: {type: none}
    pool: {size: 4}
    backends: [{name: b1, address: "${B1}"}, {name: b2, address: "${B2}"}]
"""
SEED = int(os.environ.get("GPROXY_TEST_SEED") or random.randrange(1 << 32))
CLIENTS = 8
REQUESTS = 2000
FAULT_RATE = 0.06  # retries have a budget of a fifth
IDLE_RATE = 0.05


class Asked:
    """One request, and what its client was told."""

    def __init__(self, target: bytes, method: bytes, body: bytes, fault: str):
        self.target = target
        self.method = method
        self.body = body
        self.fault = fault
        self.told = "nothing"

    @property
    def must_succeed(self) -> bool:
        return self.method in (b"GET", b"PUT") and self.fault not in BEGUN

    def __repr__(self) -> str:
        return f"{self.method.decode()} {self.target.decode()} ({self.fault or 'no fault'}) was told {self.told}"


class Client(threading.Thread):
    def __init__(self, proxy: Gproxy, ledger: Ledger, number: int, requests: int, fault_rate: float):
        super().__init__(name=f"client {number}")
        self.asked: list[Asked] = []
        self._proxy = proxy
        self._ledger = ledger
        self._number = number
        self._requests = requests
        self._fault_rate = fault_rate
        self._random = random.Random(f"{SEED} {number}")
        self._wire: Wire | None = None

    def run(self) -> None:
        for _ in range(self._requests):
            asked = self._next()
            self.asked.append(asked)
            try:
                asked.told = self._ask(asked)
            except (NotHttp, OSError) as error:
                asked.told = repr(error)
                self._drop()
        self._drop()

    def _next(self) -> Asked:
        target = b"/%d/%d" % (self._number, len(self.asked))
        method = self._random.choices([b"GET", b"POST", b"PUT"], [5, 3, 2])[0]
        body = b"" if method == b"GET" else target * self._random.choice([1, 10, 1000])
        fault = ""
        if self._random.random() < self._fault_rate:
            fault = self._random.choice([*BEFORE_RESPONSE * 2, *BEGUN])
            self._ledger.plan(target, fault)
        return Asked(target, method, body, fault)

    def _ask(self, asked: Asked) -> str:
        wire = self._connection()
        head = b"%s %s HTTP/1.1\r\nHost: origin\r\n" % (asked.method, asked.target)
        length = b"Content-Length: %d\r\n" % len(asked.body) if asked.body else b""
        wire.sock.sendall(head + length + b"\r\n" + asked.body)
        response = read_response(wire)
        if response is None or not response.whole or response.closes:
            self._drop()
        if response is None or not response.whole:
            return "half a response" if response else "nothing"
        digest = hashlib.sha256(asked.body).hexdigest().encode()
        if response.status == 200:
            return "success" if response.body == digest else f"the digest of something else: {bytes(response.body)!r}"
        return str(response.status)

    def _connection(self) -> Wire:
        if self._wire is None:
            self._wire = Wire(self._proxy.connect("web", TIMEOUT))
            self._wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._wire

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.sock.close()
            self._wire = None


@contextlib.contextmanager
def scene(tmp_path, ledger):
    """gproxy before two origins, after a few good requests, so that the retries' budget is not the smallest."""
    print(f"GPROXY_TEST_SEED={SEED}")
    with contextlib.ExitStack() as stack:
        b1, b2 = [stack.enter_context(LedgerOrigin(name, ledger)) for name in ("b1", "b2")]
        proxy = stack.enter_context(Gproxy(tmp_path, CONFIG, environ={"B1": b1.address, "B2": b2.address}))
        none([asked for asked in join(start(proxy, ledger, 1, 100)) if asked.told != "success"])
        yield proxy, b1
        assert "Traceback" not in proxy.log()


def start(
    proxy: Gproxy, ledger: Ledger, clients: int = CLIENTS, requests: int = REQUESTS, fault_rate: float = 0.0
) -> list[Client]:
    first = 0 if clients == 1 else 1
    threads = [Client(proxy, ledger, first + each, requests // clients, fault_rate) for each in range(clients)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[Client]) -> list[Asked]:
    for thread in threads:
        thread.join()
    return [asked for thread in threads for asked in thread.asked]


def none(asked: list[Asked]) -> None:
    assert not asked, f"{len(asked)} of them: " + "; ".join(map(repr, asked[:10]))


def check(ledger: Ledger, asked: list[Asked]) -> None:
    none([each for each in asked if each.must_succeed and each.told != "success"])
    none([each for each in asked if each.method == b"POST" and ledger.executed[each.target] > 1])
    none([each for each in asked if each.told == "success" and not ledger.executed[each.target]])
    none([each for each in asked if each.told not in ("success", "502", "half a response")])


def test_what_dies_before_its_response_is_tried_again_or_not_executed_twice(tmp_path):
    ledger = Ledger(SEED)
    with scene(tmp_path, ledger) as (proxy, _):
        asked = join(start(proxy, ledger, fault_rate=FAULT_RATE))
        check(ledger, asked)
        none([each for each in asked if not each.fault and each.told != "success"])
        executed = [each for each in asked if each.method == b"POST" and each.fault in EXECUTED]
        assert {(each.told, ledger.executed[each.target]) for each in executed} == {("502", 1)}
        begun = [each for each in asked if each.fault in BEGUN]
        assert {ledger.executed[each.target] for each in begun} == {1}
        assert "success" not in {each.told for each in begun}


def test_connections_that_end_while_they_are_idle_cost_no_get(tmp_path):
    ledger = Ledger(SEED)
    with scene(tmp_path, ledger) as (proxy, _):
        ledger.idle_rate = IDLE_RATE
        asked = join(start(proxy, ledger, fault_rate=FAULT_RATE))
        check(ledger, asked)
        posts = [each for each in asked if each.method == b"POST" and not each.fault]
        lost = [each for each in posts if each.told != "success"]  # they met a connection in the moment of its end
        assert len(lost) < len(posts) / 50, f"{len(lost)} of {len(posts)}"


def test_an_origin_that_is_killed_and_comes_back_costs_no_get(tmp_path):
    ledger = Ledger(SEED)
    with scene(tmp_path, ledger) as (proxy, killed):
        clients = start(proxy, ledger)
        for share in (4, 2):
            eventually(lambda least=REQUESTS // share: ledger.executed.total() > least, TIMEOUT, "they are at work")
            killed.kill() if share == 4 else killed.revive()
        check(ledger, join(clients))
