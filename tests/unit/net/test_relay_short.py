"""A backend that answers and ends at once: its answer and its FIN leave together, and nothing is lost."""

import gevent
import pytest

from gproxy.net.relay import BUFFER_SIZE
from tests.support.loopback import End
from tests.support.poll import eventually
from tests.support.relayed import Relayed


@pytest.fixture
def opened():
    sessions = []

    def new(**ends):
        sessions.append(Relayed(**ends))
        return sessions[-1]

    yield new
    for session in sessions:
        session.close()


@pytest.mark.parametrize("size", [1, 100, BUFFER_SIZE - 1, BUFFER_SIZE, BUFFER_SIZE + 1, 300_000])
def test_the_whole_answer_arrives_and_then_the_fin(opened, size):
    session = opened()
    answer = bytes(i % 251 for i in range(size))
    sender = gevent.spawn(lambda: (session.backend.send(answer), session.backend.finish()))
    eventually(lambda: sender.ready() or size > BUFFER_SIZE)
    session.start()

    assert session.client.rest() == (answer, End.FIN)


def test_a_client_that_reads_late_loses_nothing(opened):
    session = opened(client={"peer_buffer": 64 * 1024, "our_buffer": 64 * 1024})
    answer = bytes(i % 251 for i in range(1_000_000))
    sender = gevent.spawn(lambda: (session.backend.send(answer), session.backend.finish()))
    gevent.sleep(0)
    session.start()
    eventually(lambda: session.relay.down.held, what="the client's buffers are full")

    assert session.client.rest() == (answer, End.FIN)
    sender.get()


def test_the_client_may_still_speak_after_the_backends_end(opened):
    session = opened()
    session.backend.send(b"bye")
    session.backend.finish()
    session.start()
    assert session.client.rest() == (b"bye", End.FIN)

    session.client.send(b"wait")
    session.client.finish()
    assert session.backend.rest() == (b"wait", End.FIN)
    session.wait_over()


def test_unix_sockets_do_without_the_packet_trick(opened):
    session = opened(client={"unix": True})
    session.backend.send(b"answer")
    session.backend.finish()
    session.start()

    assert session.client.rest() == (b"answer", End.FIN)
