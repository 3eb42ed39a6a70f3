"""A backend at its max_connections: sessions wait in order, for a while."""

import contextlib
import socket

import pytest

from tests.support.ends import accept, address, listening, meets_reset, read, reset, session, settle, wait_for_line
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


def is_dialled(backend: socket.socket) -> bool:
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
        with session(proxy, backend) as ends:
            queue = [stack.enter_context(proxy.connect("web")) for _ in range(3)]
            for number, client in enumerate(queue):
                client.sendall(b"%d" % number)
            settle(*ends)
            assert not is_dialled(backend)
        for number, client in enumerate(queue):
            with accept(backend) as server:
                assert read(server, 1) == b"%d" % number
                assert not is_dialled(backend)
                client.close()


def test_waiting_ends_after_the_queue_timeout(tmp_path, backend):
    config = CONFIG.replace("QUEUE", "200ms")
    with (
        Gproxy(tmp_path, config, environ={"B1": address(backend)}) as proxy,
        session(proxy, backend) as (first, server),
    ):
        assert meets_reset(proxy)
        line = wait_for_line(proxy, " sQ ")
        assert (line.backend, line.tw, line.tc, line.connection) == ("<none>", -1, -1, "-")
        assert line.tt >= 200
        first.sendall(b"still here")
        assert read(server, 10) == b"still here"


def test_who_leaves_the_queue_takes_no_slot(tmp_path, backend):
    config = CONFIG.replace("QUEUE", "30")
    with Gproxy(tmp_path, config, environ={"B1": address(backend)}) as proxy:
        with session(proxy, backend) as ends:
            reset(proxy.connect("web"))
            third = proxy.connect("web")
            settle(*ends)
            assert not is_dialled(backend)
        with third, accept(backend) as server:
            third.sendall(b"third")
            assert read(server, 5) == b"third"
        assert wait_for_line(proxy, " CQ ").connection == "-"
