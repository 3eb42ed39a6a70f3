"""`pool.reuse: quiescent`: clients share a backend connection, one after the other, and never a byte."""

import socket
import time

import pytest

from tests.support.ends import read_to_end, reset
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: none}
    pool: {reuse: quiescent, quiescent_for: 20ms}
    backends: [{name: b1, address: "${B1}"}]
"""


@pytest.fixture
def proxy(tmp_path):
    """In front of an origin that numbers its connections."""
    with Origin("counted", "b1") as origin, Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        yield proxy


def ask(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question + b"\n")
    with client.makefile("rb") as lines:
        return lines.readline()


def test_two_clients_one_after_the_other_share_a_connection(proxy):
    for number in range(1, 4):
        with proxy.connect("web") as client:
            assert ask(client, b"from %d" % number) == b"b1#1: from %d\n" % number
            assert ask(client, b"again") == b"b1#1: again\n"
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client) == b""  # and not a byte of anybody else's
    proxy.stop()
    assert [line.split()[-1] for line in proxy.access()] == ["fresh", "reused", "reused"]
    assert "upstream app: pool.reuse is quiescent: clients share backend connections" in proxy.log()


def test_two_clients_at_the_same_time_do_not(proxy):
    with proxy.connect("web") as first, proxy.connect("web") as second:
        assert {ask(first, b"x"), ask(second, b"x")} == {b"b1#1: x\n", b"b1#2: x\n"}


def test_what_follows_a_reset_is_a_fresh_connection(proxy):
    with proxy.connect("web") as client:
        assert ask(client, b"x") == b"b1#1: x\n"
        reset(client)
    proxy.wait_for_access(" CD ")
    with proxy.connect("web") as client:
        assert ask(client, b"y") == b"b1#2: y\n"


def test_what_follows_an_unfinished_question_is_a_fresh_connection(proxy):
    with proxy.connect("web") as client:
        assert ask(client, b"x") == b"b1#1: x\n"
        client.sendall(b"half a questi")
        sent = time.monotonic()
        eventually(lambda: time.monotonic() - sent > 0.2, what="the origin has confirmed it")
    proxy.wait_for_access(" -- ")
    with proxy.connect("web") as client:
        assert ask(client, b"y") == b"b1#2: y\n"
