"""Being told to stop: drain, a deadline for the drain, and a second signal for the impatient."""

import signal
import socket

import pytest

from tests.support.ends import address, is_reset, listening, read, read_to_end, session, wait_for_line
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
load_balancer: {drain_timeout: DRAIN, half_close_timeout: 2}
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {health_check: {type: none}, backends: [{name: b1, address: "${B1}"}]}}
"""


@pytest.fixture
def backend():
    with listening() as backend:
        yield backend


@pytest.fixture
def start(tmp_path, backend):
    """`with start("30s") as proxy`, which is the drain_timeout."""
    return lambda drain: Gproxy(tmp_path, CONFIG.replace("DRAIN", drain), environ={"B1": address(backend)})


def is_refused(proxy: Gproxy) -> bool:
    """One that is accepted in the last moment leaves a session that ends with half_close_timeout."""
    try:
        with proxy.connect("web"):
            return False
    except ConnectionRefusedError:
        return True


both = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@both
def test_open_sessions_finish_and_new_ones_are_refused(start, backend, number):
    with start("30s") as proxy, session(proxy, backend) as (client, server):
        proxy.signal(number)
        proxy.wait_for_log("stopping; sessions that have 30 s to end: 1")
        eventually(lambda: is_refused(proxy), what="new connections are refused")
        client.sendall(b"a last request")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(server) == b"a last request"
        server.sendall(b"a last answer")
        server.close()
        assert read_to_end(client) == b"a last answer"
        assert proxy.wait() == 0
        assert wait_for_line(proxy).code == "--"
        assert "had to be closed" not in proxy.log()


def test_sessions_past_the_drain_timeout_are_killed(start, backend):
    with start("300ms") as proxy, session(proxy, backend) as (client, server):
        proxy.signal(signal.SIGTERM)
        assert is_reset(client)
        assert is_reset(server)
        assert proxy.wait() == 0
        assert wait_for_line(proxy).code == "KD"
        assert "sessions that had to be closed: 1" in proxy.log()


@both
def test_a_second_signal_ends_the_drain_at_once(start, backend, number):
    with start("1h") as proxy, session(proxy, backend) as (client, server):
        proxy.signal(number)
        proxy.wait_for_log("stopping")
        client.sendall(b"still there")
        assert read(server, 11) == b"still there"
        proxy.signal(number)
        assert proxy.wait() == 0
        assert is_reset(client)
        assert wait_for_line(proxy).code == "KD"


def test_without_sessions_it_ends_at_once(start):
    with start("1h") as proxy:
        assert proxy.stop() == 0
        assert proxy.log().splitlines()[-1].endswith("stopped")
