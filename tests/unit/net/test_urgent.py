"""An urgent byte (TCP's out-of-band data) stays where it was in the stream, and holds nothing up."""

import socket

import gevent
import pytest

from tests.support.loopback import End
from tests.support.relayed import Relayed


@pytest.fixture
def session():
    relayed = Relayed().start()
    yield relayed
    relayed.close()


def test_it_arrives_in_its_place(session):
    session.backend.send(b"before ")
    session.backend.sock.send(b"!", socket.MSG_OOB)
    session.backend.send(b" after")
    session.backend.finish()

    assert session.client.rest() == (b"before ! after", End.FIN)


def test_it_arrives_in_the_middle_of_bulk(session):
    block = bytes(range(256)) * 16384  # 4 MiB: spliced

    def send():
        session.backend.send(block)
        session.backend.sock.send(b"!", socket.MSG_OOB)
        session.backend.send(block)
        session.backend.finish()

    sender = gevent.spawn(send)
    assert session.client.rest() == (block + b"!" + block, End.FIN)
    sender.get()
