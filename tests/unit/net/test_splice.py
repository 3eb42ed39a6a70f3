"""Pipes for bulk: the store of them, and when a relay splices and when it copies."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gproxy.net.relay import BUFFER_SIZE, CALM_AFTER
from gproxy.net.splice import MAX_FREE, Pipe, PipeStore
from tests.support.loopback import End, descriptors
from tests.support.poll import eventually
from tests.support.relayed import Relayed

SLOW = {"peer_buffer": 128 * 1024}
UNIX = {"unix": True}
# All of MANY stands in the kernel's buffers before the relay runs: it finds full buffers, and takes that for bulk.
ROOMY = {"peer_buffer": 4 << 20, "our_buffer": 4 << 20}
MANY = 2 << 20


class CountingStore(PipeStore):
    """Counts how often a pipe was asked for, and looks at each that is lent."""

    def __init__(self, limit: int = 256):
        super().__init__(limit)
        self.taken = 0

    def take(self) -> Pipe | None:
        self.taken += 1
        pipe = super().take()
        assert pipe is None or is_empty(pipe)
        return pipe


def is_empty(pipe: Pipe) -> bool:
    try:
        os.read(pipe.read_fd, 1)
    except BlockingIOError:
        return not pipe.pending
    return False


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingStore]:
    """The relays' pipes; none may be in use afterwards, nor any descriptor left."""
    before = descriptors()
    store = CountingStore()
    monkeypatch.setattr("gproxy.net.relay.PIPES", store)
    yield store
    assert "<PipeStore 0 in use" in repr(store)
    close_free(store)
    assert descriptors() == before


def close_free(store: PipeStore) -> None:
    while ", 0 free" not in repr(store):
        pipe = store.take()
        assert pipe is not None
        pipe.close()


def bulk(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def pass_on(session: Relayed, data: bytes) -> None:
    """From the client, which is roomy, to the backend, all of it."""
    session.client.send(data)
    assert session.backend.receive(len(data)) == data


# --- the store -------------------------------------------------------------------------


def test_a_pipe_carries_bytes_from_socket_to_socket() -> None:
    pipe = Pipe()
    near, far = socket.socketpair()
    with near, far:
        near.send(b"hello")
        assert pipe.fill(far.fileno()) == pipe.pending == 5
        pipe.drain(far.fileno())
        assert pipe.pending == 0
        assert near.recv(10) == b"hello"
    pipe.close()


def test_a_pipe_tells_an_end_from_nothing_yet() -> None:
    pipe = Pipe()
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        with pytest.raises(BlockingIOError):
            pipe.fill(far.fileno())
        near.shutdown(socket.SHUT_WR)
        assert pipe.fill(far.fileno()) == 0
    pipe.close()


def test_an_empty_pipe_is_lent_again() -> None:
    store = PipeStore()
    pipe = store.take()
    assert pipe is not None
    store.give_back(pipe)
    assert repr(store) == "<PipeStore 0 in use, 1 free, at most 256>"
    assert store.take() is pipe
    store.give_back(pipe)
    close_free(store)


def test_a_pipe_with_bytes_in_it_is_closed() -> None:
    before = descriptors()
    store = PipeStore()
    pipe = store.take()
    assert pipe is not None
    near, far = socket.socketpair()
    with near, far:
        near.send(b"somebody's bytes")
        pipe.fill(far.fileno())
    store.give_back(pipe)
    assert repr(store) == "<PipeStore 0 in use, 0 free, at most 256>"
    assert descriptors() == before


def test_no_more_pipes_than_allowed() -> None:
    store = PipeStore(limit=2)
    pipes = [store.take(), store.take()]
    assert None not in pipes
    assert store.take() is None
    store.give_back(pipes[0])
    assert store.take() is pipes[0]
    for pipe in pipes:
        store.give_back(pipe)
    close_free(store)


def test_only_a_few_free_pipes_are_kept() -> None:
    before = descriptors()
    store = PipeStore()
    pipes = [store.take() for _ in range(MAX_FREE + 3)]
    for pipe in pipes:
        store.give_back(pipe)
    assert repr(store) == f"<PipeStore 0 in use, {MAX_FREE} free, at most 256>"
    close_free(store)
    assert descriptors() == before


def test_without_descriptors_there_is_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    store = PipeStore()

    def exhausted(_flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe2", exhausted)
        assert store.take() is None
    assert repr(store) == "<PipeStore 0 in use, 0 free, at most 256>"


# --- the relay -------------------------------------------------------------------------


@pytest.mark.parametrize("client", [{}, UNIX], ids=["tcp client", "unix client"])
@pytest.mark.parametrize("backend", [{}, UNIX], ids=["tcp backend", "unix backend"])
def test_bulk_is_spliced(store: CountingStore, client: dict[str, Any], backend: dict[str, Any]) -> None:
    session = Relayed(client=client | ROOMY, backend=backend).start()
    pass_on(session, bulk(MANY))
    assert store.taken
    session.client.close()
    assert session.backend.rest() == (b"", End.FIN)
    session.close()


def test_messages_are_copied(store: CountingStore) -> None:
    session = Relayed().start()
    for _ in range(20):
        pass_on(session, bulk(BUFFER_SIZE - 1))
    assert not store.taken
    session.close()


def test_a_flow_that_calms_is_copied_again(store: CountingStore) -> None:
    session = Relayed(client=ROOMY).start()
    pass_on(session, bulk(MANY))
    for _ in range(CALM_AFTER + 1):
        pass_on(session, b"short")
    taken = store.taken
    assert taken
    for _ in range(3):
        pass_on(session, b"short")
    assert store.taken == taken
    assert "<PipeStore 0 in use" in repr(store)
    session.close()


def test_a_calm_flow_may_become_bulk_again(store: CountingStore) -> None:
    session = Relayed(client=ROOMY).start()
    for _ in range(2):
        taken = store.taken
        pass_on(session, bulk(MANY))
        assert store.taken > taken
        for _ in range(CALM_AFTER + 1):
            pass_on(session, b"short")
    session.close()


def test_a_slow_reader_gets_all_that_was_spliced(store: CountingStore) -> None:
    session = Relayed(backend=SLOW).start()
    data = bulk(16 << 20)
    sending = gevent.spawn(session.client.send, data)
    eventually(lambda: session.relay.up.held and "0 in use" not in repr(store), what="bytes wait in a pipe")
    sending.rawlink(lambda _: session.client.finish())
    assert session.backend.rest() == (data, End.FIN)
    session.close()


def test_spliced_bytes_arrive_before_a_reset(store: CountingStore) -> None:
    """Splice is told of the reset, and only once: a later recv() would find an end like any other."""
    session = Relayed(client=ROOMY, backend=SLOW).start()
    data = bulk(MANY)
    session.client.send(data)
    session.client.wait_acknowledged()
    session.client.reset()
    assert session.backend.rest() == (data, End.RESET)
    assert store.taken
    session.wait_over()
    session.close()


def test_a_session_that_is_killed_leaves_no_bytes_for_another(store: CountingStore) -> None:
    first = Relayed(backend=SLOW).start()
    sending = gevent.spawn(first.client.send, b"1" * (16 << 20))
    eventually(lambda: first.relay.up.held and "0 in use" not in repr(store), what="bytes wait in a pipe")
    first.relay.kill()
    sending.kill()
    first.close()
    assert "<PipeStore 0 in use" in repr(store)

    second = Relayed(client=ROOMY).start()
    taken = store.taken
    pass_on(second, b"2" * MANY)
    assert store.taken > taken
    second.close()


def test_a_sink_that_fails_gives_its_pipe_up(store: CountingStore) -> None:
    session = Relayed(backend=SLOW).start()
    sending = gevent.spawn(session.client.send, b"1" * (16 << 20))
    eventually(lambda: session.relay.up.held and "0 in use" not in repr(store), what="bytes wait in a pipe")
    session.backend.reset()
    eventually(lambda: "<PipeStore 0 in use" in repr(store))
    session.wait_over()
    sending.kill()
    session.close()


@pytest.mark.parametrize("ends", [{}, {"client": UNIX, "backend": UNIX}], ids=["tcp", "unix"])
def test_without_pipes_bulk_is_copied(monkeypatch: pytest.MonkeyPatch, ends: dict[str, dict[str, Any]]) -> None:
    monkeypatch.setattr("gproxy.net.relay.PIPES", PipeStore(limit=0))
    session = Relayed(client=ends.get("client", {}) | ROOMY, backend=ends.get("backend")).start()
    pass_on(session, bulk(MANY))
    session.client.close()
    assert session.backend.rest() == (b"", End.FIN)
    session.close()


def test_a_spliced_fin_leaves_the_other_direction_open(store: CountingStore) -> None:
    session = Relayed(client=ROOMY).start()
    data = bulk(MANY)
    session.client.send(data)
    session.client.finish()
    assert session.backend.rest() == (data, End.FIN)
    session.backend.send(b"thanks")
    assert session.client.receive(6) == b"thanks"
    session.close()
    assert store.taken
