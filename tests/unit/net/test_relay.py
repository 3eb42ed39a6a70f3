"""The relay between two peers on loopback: what one sends is what the other gets, to the very end."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from gproxy.net.relay import BUFFER_SIZE, Flow, Relay
from gproxy.net.splice import PipeStore
from tests.support.loopback import End, Peer, descriptors
from tests.support.poll import eventually
from tests.support.relayed import Relayed

UNIX = {"unix": True}
# So little that a slow reader shows. Windows below loopback's packets of 64 KiB would have the
# kernel wait 200 ms between packets.
SMALL = {"peer_buffer": 128 * 1024}

Open = Callable[..., Relayed]


@pytest.fixture
def relayed() -> Iterator[Open]:
    """Makes relays and has them begin; afterwards no socket of theirs may be left."""
    opened: list[Relayed] = []
    before = descriptors()

    def make(*, begin: bool = True, **ends: Any) -> Relayed:
        opened.append(Relayed(**ends))
        return opened[-1].start() if begin else opened[-1]

    yield make
    for session in opened:
        session.close()
    assert {d for d in descriptors() - before if "pipe:" not in d} == set()  # free pipes are kept: test_splice.py


def bulk(size: int) -> bytes:
    """Bytes in which a missing, doubled or swapped piece shows."""
    return random.Random(size).randbytes(size)


def send_aside(peer: Peer, data: bytes, then: Callable[[], None] | None = None) -> Any:
    """In a greenlet of its own, because it waits for the reader."""

    def run() -> None:
        peer.send(data)
        if then is not None:
            then()

    return gevent.spawn(run)


def wait_stuck(flow: Flow) -> None:
    """Until it holds bytes and has read no more for a while."""
    seen: list[int] = []

    def stuck() -> bool:
        seen.append(flow.received)
        return bool(flow.held) and seen[-10:] == [flow.received] * 10

    eventually(stuck, what="the relay holds bytes and reads no more")


# --- bytes and FINs --------------------------------------------------------------------


@pytest.mark.parametrize("client", [{}, UNIX], ids=["tcp client", "unix client"])
@pytest.mark.parametrize("backend", [{}, UNIX], ids=["tcp backend", "unix backend"])
def test_messages_go_both_ways_until_both_have_finished(relayed: Open, client: Any, backend: Any) -> None:
    session = relayed(client=client, backend=backend)
    for number in range(3):
        session.client.send(b"ask %d" % number)
        assert session.backend.receive(5) == b"ask %d" % number
        session.backend.send(b"answer %d" % number)
        assert session.client.receive(8) == b"answer %d" % number

    session.client.finish()
    assert session.backend.rest() == (b"", End.FIN)
    assert not session.ended
    session.backend.finish()
    assert session.client.rest() == (b"", End.FIN)

    assert session.ended == 1
    assert session.our_ends_closed


def test_the_backend_may_speak_first(relayed: Open) -> None:
    session = relayed()
    session.backend.send(b"220 ready\r\n")
    assert session.client.receive(11) == b"220 ready\r\n"


def test_after_the_client_s_fin_the_answer_still_comes(relayed: Open) -> None:
    session = relayed()
    session.client.send(b"last question")
    session.client.finish()
    assert session.backend.rest() == (b"last question", End.FIN)
    assert session.relay.half_closed

    for _ in range(3):
        session.backend.send(b"answer")
        assert session.client.receive(6) == b"answer"
    session.backend.close()
    assert session.client.rest() == (b"", End.FIN)
    assert session.ended == 1


def test_after_the_backend_s_fin_the_client_may_go_on(relayed: Open) -> None:
    session = relayed()
    session.backend.send(b"bye")
    session.backend.finish()
    assert session.client.rest() == (b"bye", End.FIN)
    assert session.relay.half_closed

    for _ in range(3):
        session.client.send(b"more")
        assert session.backend.receive(4) == b"more"
    session.client.close()
    assert session.backend.rest() == (b"", End.FIN)
    assert session.ended == 1


def test_a_fin_follows_every_byte_before_it_to_a_slow_reader(relayed: Open) -> None:
    session = relayed(backend=SMALL)
    data = bulk(16 << 20)
    sending = send_aside(session.client, data, session.client.finish)
    eventually(lambda: session.relay.up.held, what="the relay waits for the backend")
    assert session.backend.rest() == (data, End.FIN)
    sending.get()


def test_what_waits_before_the_relay_starts_is_passed_on(relayed: Open) -> None:
    data = bulk(300_000)
    for direction in ("up", "down"):
        session = relayed(begin=False, client=SMALL, backend=SMALL)
        source, sink = (session.client, session.backend)[:: 1 if direction == "up" else -1]
        sending = send_aside(source, data, source.close)
        gevent.idle()
        session.start()
        assert sink.rest() == (data, End.FIN), direction
        sending.get()


def test_a_short_answer_whose_fin_is_there_already(relayed: Open) -> None:
    session = relayed(begin=False)
    session.backend.send(b"answer")
    session.backend.close()
    session.start()
    assert session.client.rest() == (b"answer", End.FIN)
    assert not session.ended  # the client has not finished
    session.client.close()
    session.wait_over()


@pytest.mark.parametrize("client", [SMALL | {"our_buffer": 16 * 1024}, UNIX], ids=["tcp", "unix"])
def test_a_long_answer_whose_fin_is_there_already(relayed: Open, client: Any) -> None:
    """More than one buffer, and more than the client's socket takes at once."""
    session = relayed(begin=False, client=client, backend={"our_buffer": 1 << 20, "peer_buffer": 1 << 20})
    data = bulk(200_000)
    session.backend.send(data)
    session.backend.close()
    session.start()
    assert session.client.rest() == (data, End.FIN)


# --- resets ----------------------------------------------------------------------------


def test_a_client_s_reset_reaches_the_backend_after_every_byte(relayed: Open) -> None:
    session = relayed()
    session.client.send(b"half a request")
    session.client.wait_acknowledged()
    session.client.reset()
    assert session.backend.rest() == (b"half a request", End.RESET)
    assert session.ended == 1
    assert session.relay.client_reset
    assert not session.relay.backend_reset


def test_a_backend_s_reset_reaches_the_client_after_every_byte(relayed: Open) -> None:
    session = relayed()
    session.backend.send(b"half an answer")
    session.backend.wait_acknowledged()
    session.backend.reset()
    assert session.client.rest() == (b"half an answer", End.RESET)
    assert session.ended == 1
    assert session.relay.backend_reset
    assert not session.relay.client_reset


@pytest.mark.parametrize("resetter", ["client", "backend"])
def test_a_reset_waits_until_a_slow_reader_has_megabytes(relayed: Open, resetter: str) -> None:
    """Everything that gproxy's kernel had acknowledged before the reset arrives before the reset."""
    roomy = {"our_buffer": 4 << 20}
    slow = {"peer_buffer": 4096}
    ends = {"client": roomy, "backend": slow} if resetter == "client" else {"client": slow, "backend": roomy}
    session = relayed(**ends)
    source, sink = (session.client, session.backend)[:: 1 if resetter == "client" else -1]
    data = bulk(2 << 20)
    source.send(data)
    source.wait_acknowledged()
    source.reset()

    start = sink.receive(100_000)
    assert not session.ended  # the rest is on its way
    rest, end = sink.rest()
    assert start + rest == data
    assert end is End.RESET
    session.wait_over()


def test_a_reset_is_held_back_while_the_peer_s_kernel_has_not_confirmed(relayed: Open) -> None:
    session = relayed(backend={"peer_buffer": 4096})
    data = bulk(256 * 1024)  # fits into our socket, not into the backend's
    session.client.send(data)
    session.client.wait_acknowledged()
    session.client.reset()
    eventually(lambda: session.relay.aborting, what="only the last bytes are waited for")
    assert not session.ended
    assert "aborting" in repr(session.relay)
    assert session.backend.rest() == (data, End.RESET)
    session.wait_over()


def test_an_answer_to_half_a_request_arrives_before_the_reset(relayed: Open) -> None:
    """A server that says 413 and closes, with the rest of the upload unread: its kernel resets."""
    session = relayed(backend=SMALL)
    session.client.send(bulk(1 << 20))
    assert session.backend.receive(1000)
    session.backend.send(b"413 too large")
    session.backend.close()
    assert session.client.rest() == (b"413 too large", End.RESET)
    session.wait_over()
    assert session.relay.backend_reset


def test_an_answer_longer_than_the_buffers_arrives_before_the_reset(relayed: Open) -> None:
    """The relay learns of the reset while it writes, and has yet to read what came before it."""
    session = relayed(client={"peer_buffer": 4096}, backend={"our_buffer": 4 << 20})
    answer = bulk(2 << 20)
    session.backend.send(answer)
    session.backend.wait_acknowledged()
    session.client.send(b"unread")
    eventually(lambda: session.relay.up.received == 6)
    session.backend.close()  # with bytes unread: the kernel resets
    session.client.send(b"more")
    eventually(lambda: session.relay.up.received >= 6)
    assert session.client.rest() == (answer, End.RESET)
    session.wait_over()


def test_a_reset_that_follows_another_s_is_not_blamed(relayed: Open) -> None:
    """The backend was first; the client's may be its answer to ours."""
    session = relayed(client=SMALL)
    sending = send_aside(session.backend, bulk(16 << 20))
    wait_stuck(session.relay.down)
    session.backend.reset()
    sending.kill()
    session.client.send(b"meets the reset")
    eventually(lambda: session.relay.backend_reset)
    assert not session.ended  # bytes for the client are left
    session.client.reset()
    session.wait_over()
    assert not session.relay.client_reset


def test_a_client_gone_for_good_ends_the_backend_s_flood(relayed: Open) -> None:
    session = relayed()
    flood = send_aside(session.backend, bulk(64 << 20))
    assert session.client.receive(1000)
    session.client.close()  # with bytes unread: the kernel resets
    session.wait_over()
    assert session.relay.client_reset
    flood.join()
    assert isinstance(flood.exception, ConnectionError)


def test_a_client_that_closes_both_ways_before_the_answer(relayed: Open) -> None:
    """Its FIN looks like a half-close; only the answer meets the reset."""
    session = relayed()
    session.client.send(b"ask")
    session.client.close()
    assert session.backend.rest() == (b"ask", End.FIN)
    for _ in range(3):  # the first is answered with RST
        try:
            session.backend.send(b"answer")
        except ConnectionError:
            break
        gevent.sleep(0)
    session.backend.close()
    session.wait_over()


def test_both_reset_at_once(relayed: Open) -> None:
    session = relayed()
    session.client.reset()
    session.backend.reset()
    session.wait_over()
    assert session.ended == 1
    assert session.relay.client_reset is not session.relay.backend_reset  # one was first


# --- back-pressure -----------------------------------------------------------------------


@pytest.mark.parametrize("ends", [{}, {"client": UNIX, "backend": UNIX}], ids=["tcp", "unix"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_peer_that_does_not_read_stops_the_other(relayed: Open, direction: str, ends: Any) -> None:
    session = relayed(**(ends or {"client": SMALL, "backend": SMALL}))
    source, sink = (session.client, session.backend)[:: 1 if direction == "up" else -1]
    flow = getattr(session.relay, direction)
    data = bulk(32 << 20)
    sending = send_aside(source, data, source.finish)

    wait_stuck(flow)
    assert 0 < flow.held <= 1 << 20  # a buffer, or a pipe
    assert flow.received < len(data) - (8 << 20)
    assert not sending.ready()
    assert flow.delivered == flow.received - flow.held

    assert sink.rest() == (data, End.FIN)
    sending.get()
    assert flow.held == 0
    assert flow.received == flow.delivered == len(data)


def test_a_copied_flow_holds_at_most_one_buffer(relayed: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gproxy.net.relay.PIPES", PipeStore(limit=0))
    session = relayed(backend=SMALL)
    data = bulk(16 << 20)
    sending = send_aside(session.client, data, session.client.finish)
    wait_stuck(session.relay.up)
    assert 0 < session.relay.up.held <= BUFFER_SIZE
    assert session.backend.rest() == (data, End.FIN)
    sending.get()


def test_one_direction_is_not_held_up_by_the_other(relayed: Open) -> None:
    session = relayed(backend=SMALL)
    sending = send_aside(session.client, bulk(16 << 20))
    eventually(lambda: session.relay.up.held)
    session.backend.send(b"still here")
    assert session.client.receive(10) == b"still here"
    sending.kill()


def test_bulk_both_ways_at_once(relayed: Open) -> None:
    session = relayed()
    question, answer = bulk(16 << 20), bulk(16 << 20)[::-1]
    sending = [
        send_aside(session.client, question, session.client.finish),
        send_aside(session.backend, answer, session.backend.finish),
    ]
    got = gevent.spawn(session.backend.rest)
    assert session.client.rest() == (answer, End.FIN)
    assert got.get() == (question, End.FIN)
    gevent.joinall(sending, raise_error=True)
    assert session.ended == 1


# --- ends from outside -----------------------------------------------------------------


def test_close_ends_both_sides_with_fin(relayed: Open) -> None:
    session = relayed()
    session.relay.close()
    assert session.client.rest() == session.backend.rest() == (b"", End.FIN)
    assert session.ended == 1


def test_kill_ends_both_sides_with_rst(relayed: Open) -> None:
    session = relayed()
    session.relay.kill()
    assert session.client.rest() == session.backend.rest() == (b"", End.RESET)
    assert session.ended == 1


def test_kill_drops_what_is_held(relayed: Open) -> None:
    session = relayed(backend=SMALL)
    sending = send_aside(session.client, bulk(16 << 20))
    eventually(lambda: session.relay.up.held)
    session.relay.kill()
    assert session.relay.up.held == 0
    _, end = session.backend.rest()
    assert end is End.RESET
    assert session.ended == 1
    sending.kill()


def test_the_end_is_reported_once(relayed: Open) -> None:
    session = relayed()
    session.client.close()
    session.backend.close()
    session.wait_over()
    session.relay.close()
    session.relay.kill()
    assert session.ended == 1
    assert session.our_ends_closed


def test_the_end_is_reported_when_everything_is_gone() -> None:
    """A caller may reuse what it gave: no descriptor is open and no watcher runs when it hears."""
    seen = []
    session = Relayed()
    session._over = lambda relay: seen.append((session.our_ends_closed, repr(relay)))  # type: ignore[method-assign]
    session.relay._on_end = session._over
    session.start()
    session.client.send(b"123")
    assert session.backend.receive(3) == b"123"
    session.client.reset()
    eventually(lambda: seen)
    assert seen == [(True, "<Relay over, 3 bytes up, 0 down>")]
    session.close()


def test_repr_tells_its_state(relayed: Open) -> None:
    session = relayed()
    session.client.send(b"12345")
    session.backend.receive(5)
    session.backend.send(b"123")
    session.client.receive(3)
    assert repr(session.relay) == "<Relay open, 5 bytes up, 3 down>"
    session.client.finish()
    session.backend.rest()
    assert repr(session.relay) == "<Relay half-closed, 5 bytes up, 3 down>"
    session.relay.close()
    assert repr(session.relay) == "<Relay over, 5 bytes up, 3 down>"


# --- a FIN that is held back -----------------------------------------------------------


class Withheld:
    """What `on_client_fin` was called with."""

    def __init__(self) -> None:
        self.relays: list[Relay] = []


@pytest.fixture
def withheld() -> Withheld:
    return Withheld()


def test_a_withheld_fin_does_not_reach_the_backend(relayed: Open, withheld: Withheld) -> None:
    session = relayed(on_client_fin=withheld.relays.append)
    session.client.send(b"ask")
    session.client.finish()
    eventually(lambda: withheld.relays)
    assert session.backend.receive(3) == b"ask"
    session.backend.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        session.backend.sock.recv(1)


def test_a_withheld_fin_can_be_forwarded(relayed: Open, withheld: Withheld) -> None:
    session = relayed(on_client_fin=withheld.relays.append)
    session.client.finish()
    eventually(lambda: withheld.relays)
    session.relay.forward_fin()
    assert session.backend.rest() == (b"", End.FIN)
    session.backend.send(b"answer")
    session.backend.close()
    assert session.client.rest() == (b"answer", End.FIN)
    assert session.ended == 1


def test_a_backend_can_be_detached(relayed: Open, withheld: Withheld) -> None:
    session = relayed(on_client_fin=withheld.relays.append)
    session.client.finish()
    eventually(lambda: withheld.relays)
    backend = session.relay.detach_backend()
    assert session.client.rest() == (b"", End.FIN)
    assert session.ended == 0  # the caller's doing, so nobody tells it
    backend.send(b"next client's")
    assert session.backend.receive(13) == b"next client's"


def test_a_withheld_session_ends_as_usual_when_the_backend_finishes(relayed: Open, withheld: Withheld) -> None:
    session = relayed(on_client_fin=withheld.relays.append)
    session.client.finish()
    eventually(lambda: withheld.relays)
    session.backend.close()
    session.wait_over()
    assert session.client.rest() == (b"", End.FIN)


def test_answered_means_that_the_backend_had_the_last_word(relayed: Open, withheld: Withheld) -> None:
    session = relayed(on_client_fin=withheld.relays.append)
    assert session.relay.answered  # nobody has asked
    session.client.send(b"ask")
    session.backend.receive(3)
    assert not session.relay.answered
    session.backend.send(b"answer")
    session.client.receive(6)
    assert session.relay.answered
    session.client.send(b"again")
    session.backend.receive(5)
    assert not session.relay.answered


# --- descriptors and garbage -----------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "reset", "kill"])
def test_no_descriptor_is_left(how: str) -> None:
    before = descriptors()
    sessions = [Relayed().start() for _ in range(10)]
    for session in sessions:
        session.client.send(b"ask")
        assert session.backend.receive(3) == b"ask"
        if how == "fin":
            session.client.close()
            session.backend.close()
        elif how == "reset":
            session.client.reset()
        else:
            session.relay.kill()
    for session in sessions:
        session.wait_over()
        session.client.close()
        session.backend.close()
    assert descriptors() == before


def test_keeps_small_messages_moving_without_delay(relayed: Open) -> None:
    """Nagle's algorithm and corks would hold back the second of two small writes."""
    session = relayed()
    assert all(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for end in session._ends)
