"""A backend at its max_connections: sessions wait in order, for a while."""

import contextlib
import socket

import pytest

from tests.support.ends import accept, address, is_reset, listening, read, session, wait_for_line
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app, queue_timeout: QUEUE}]
upstreams:
  app:
    health_check: {type: none}
    backends: [{name: b1, address: "${B1}", max_connections: 1}]
"""


@pytest.fixture
def backend():
    with listening() as backend:
        yield backend


def waits(backend: socket.socket) -> bool:
    """Whether gproxy has dialled the backend."""
    backend.setblocking(False)
    try:
        backend.accept()[0].close()
    except BlockingIOError:
        return False
    finally:
        backend.settimeout(10)
    return True


def test_those_who_wait_are_served_in_order_as_slots_come_free(tmp_path, backend):
    config = CONFIG.replace("QUEUE", "30")
    with Gproxy(tmp_path, config, environ={"B1": address(backend)}) as proxy, contextlib.ExitStack() as stack:
        with session(proxy, backend):
            queue = [stack.enter_context(proxy.connect("web")) for _ in range(3)]
            for number, client in enumerate(queue):
                client.sendall(b"%d" % number)
            assert not waits(backend)
        for number, client in enumerate(queue):
            with accept(backend) as server:
                assert read(server, 1) == b"%d" % number
                assert not waits(backend)
                client.close()


def test_waiting_ends_after_the_queue_timeout(tmp_path, backend):
    config = CONFIG.replace("QUEUE", "200ms")
    with (
        Gproxy(tmp_path, config, environ={"B1": address(backend)}) as proxy,
        session(proxy, backend) as (first, server),
    ):
        with proxy.connect("web") as second:
            assert is_reset(second)
        line = wait_for_line(proxy, " sQ ")
        assert (line.backend, line.tw, line.tc, line.connection) == ("<none>", -1, -1, "-")
        assert line.tt >= 200
        first.sendall(b"still here")
        assert read(server, 10) == b"still here"


def test_who_leaves_the_queue_takes_no_slot(tmp_path, backend):
    config = CONFIG.replace("QUEUE", "30")
    with Gproxy(tmp_path, config, environ={"B1": address(backend)}) as proxy:
        with session(proxy, backend):
            proxy.connect("web").close()
            third = proxy.connect("web")
            assert not waits(backend)
        with third, accept(backend) as server:
            third.sendall(b"third")
            assert read(server, 5) == b"third"
        wait_for_line(proxy, " CQ ")
        eventually(lambda: proxy.wait_for_access(r"(?m)( -- (?s:.*)){2}"))
