"""The timeouts of a tcp session, each as both peers and the access log see it."""

import socket
import time

import pytest

from tests.support.ends import (
    TIMEOUT,
    accept,
    address,
    is_reset,
    listening,
    read_to_end,
    send_until_reset,
    session,
    small_buffer,
    wait_for_line,
)
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app: {health_check: {type: none}, backends: [{name: b1, address: "${B1}"}], TIMEOUT: 300ms}
"""


@pytest.fixture
def backend():
    with listening() as backend:
        yield backend


@pytest.fixture
def start(tmp_path, backend):
    """`with start("stall_timeout") as proxy`: that one is short, all others are their defaults."""
    return lambda timeout: Gproxy(tmp_path, CONFIG.replace("TIMEOUT", timeout), environ={"B1": address(backend)})


def ended_with(proxy: Gproxy, code: str) -> None:
    line = wait_for_line(proxy)
    assert (line.code, line.backend) == (code, "b1")
    assert line.tt >= 300


def test_an_idle_session_is_closed_on_both_sides(start, backend):
    with start("connection_idle_timeout") as proxy, session(proxy, backend) as (client, server):
        assert read_to_end(client) == b""
        assert read_to_end(server) == b""
        ended_with(proxy, "cD")


def test_a_client_that_takes_no_bytes_is_reset(start, backend):
    with start("stall_timeout") as proxy, small_buffer(socket.socket()) as client:
        client.settimeout(TIMEOUT)
        client.connect(proxy.address("web"))
        with accept(backend) as server:
            assert send_until_reset(server)
            assert is_reset(client)
        ended_with(proxy, "cD")


def test_a_backend_that_takes_no_bytes_is_reset(start, backend):
    with start("stall_timeout") as proxy, session(proxy, backend) as (client, server):
        assert send_until_reset(client)
        assert is_reset(server)
        ended_with(proxy, "sD")


def test_a_backend_that_does_not_finish_after_the_clients_fin(start, backend):
    with start("half_close_timeout") as proxy, session(proxy, backend) as (client, server):
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(server) == b""
        assert read_to_end(client) == b""
        ended_with(proxy, "sL")
        assert send_until_reset(server)


def test_a_client_that_does_not_finish_after_the_backends_fin(start, backend):
    with start("half_close_timeout") as proxy, session(proxy, backend) as (client, server):
        server.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
        assert read_to_end(server) == b""
        ended_with(proxy, "cL")
        assert send_until_reset(client)


@pytest.mark.parametrize("timeout", ["connection_idle_timeout", "half_close_timeout"])
def test_a_byte_now_and_then_keeps_a_session_alive(start, backend, timeout):
    with start(timeout) as proxy, session(proxy, backend) as (client, server):
        if timeout == "half_close_timeout":
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(server) == b""
        until = time.monotonic() + 1.0  # three times the timeout
        while time.monotonic() < until:
            server.sendall(b".")
            assert client.recv(1) == b"."
        server.shutdown(socket.SHUT_WR)
        client.close()
        assert wait_for_line(proxy).code == "--"
