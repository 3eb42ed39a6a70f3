"""Connections dialled ahead: a server that speaks first is heard by one client, once."""

import select
import socket

import pytest

from tests.support.ends import TIMEOUT, accept, address, listening, read, read_to_end
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: none}
    pool: {preconnect: 2}
    backends: [{name: b1, address: "${B1}"}]
"""


def test_the_greeting_reaches_the_client_once_and_intact(tmp_path):
    with Origin("hello", "a greeting") as origin, Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        for _ in range(10):
            with proxy.connect("web") as client:
                client.sendall(b"a word")
                assert read(client, 17) == b"a greeting\na word"


@pytest.fixture
def backend():
    with listening() as backend:
        yield backend


def test_it_is_dialled_before_the_client_comes_and_kept_with_its_greeting(tmp_path, backend):
    with (
        Gproxy(tmp_path, CONFIG, environ={"B1": address(backend)}) as proxy,
        accept(backend) as first,
        accept(backend) as second,  # and no client yet
    ):
        first.sendall(b"hello")
        second.sendall(b"hello")
        with proxy.connect("web") as client:
            assert read(client, 5) == b"hello"
            accept(backend).close()  # a third one is dialled in the place of the one that is in use
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            spoken_to = second if second in select.select([first, second], [], [], TIMEOUT)[0] else first
            assert read_to_end(spoken_to) == b"question"
            spoken_to.close()
            assert read_to_end(client) == b""


def test_one_that_ended_while_it_waited_is_not_lent(tmp_path, backend):
    with Gproxy(tmp_path, CONFIG, environ={"B1": address(backend)}) as proxy:
        accept(backend).close()
        accept(backend).close()
        with accept(backend) as third, accept(backend) as fourth, proxy.connect("web") as client:
            third.sendall(b"alive")
            fourth.sendall(b"alive")
            assert read(client, 5) == b"alive"
            third.close()
            fourth.close()
            assert read_to_end(client) == b""
