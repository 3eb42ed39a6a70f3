"""Stream: reading, writing and splicing in straight lines, over real connections."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gproxy.net.splice import PIPES
from gproxy.net.stream import PeerReset, Stream
from tests.support.loopback import TIMEOUT, End, Peer, descriptors, pair
from tests.support.poll import eventually

Make = Callable[..., tuple[Peer, Stream]]


@pytest.fixture
def streams() -> Iterator[Make]:
    """Makes connections: the peer's end, and ours as a stream. Afterwards no descriptor may be left."""
    while PIPES._free:
        PIPES._made -= 1
        PIPES._free.pop().close()
    before = descriptors()
    made: list[tuple[Peer, Stream]] = []

    def make(**buffers: Any) -> tuple[Peer, Stream]:
        peer, sock = pair(**buffers)
        made.append((peer, Stream(sock, get_hub())))
        return made[-1]

    yield make
    for peer, stream in made:
        peer.close()
        stream.close()
    while PIPES._free:
        PIPES._made -= 1
        PIPES._free.pop().close()
    eventually(lambda: descriptors() <= before, TIMEOUT, "every descriptor is closed")


class Stop(gevent.GreenletExit):  # type: ignore[misc]
    pass


def rounds(count: int = 5) -> None:
    """Let the loop look at its sockets so many times."""
    for _ in range(count):
        gevent.sleep(0)
        get_hub().loop.update_now()


# --- reading ----------------------------------------------------------------------------------


def test_a_read_returns_what_is_there(streams: Make) -> None:
    peer, stream = streams()
    peer.send(b"hello")
    assert stream.read() == b"hello"
    assert (stream.received, stream.sent, stream.moved) == (5, 0, 5)


def test_a_read_waits_for_what_is_to_come(streams: Make) -> None:
    peer, stream = streams()
    reading = gevent.spawn(stream.read)
    gevent.sleep(0)
    assert not reading.dead
    peer.send(b"hello")
    assert reading.get(timeout=TIMEOUT) == b"hello"


def test_a_fin_reads_as_nothing(streams: Make) -> None:
    peer, stream = streams()
    peer.send(b"last")
    peer.finish()
    assert stream.read() == b"last"
    assert stream.read() == b""
    assert stream.read() == b""


def test_a_reset_names_its_stream(streams: Make) -> None:
    peer, stream = streams()
    peer.reset()
    with pytest.raises(PeerReset) as caught:
        stream.read()
    assert caught.value.stream is stream


def test_read_now_never_waits(streams: Make) -> None:
    peer, stream = streams()
    assert stream.read_now() is None
    peer.send(b"hello")
    assert stream.read_now() == b"hello"
    assert stream.received == 5
    peer.finish()
    assert stream.read_now() == b""


def test_read_now_of_a_reset_names_its_stream(streams: Make) -> None:
    peer, stream = streams()
    peer.reset()
    with pytest.raises(PeerReset) as caught:
        stream.read_now()
    assert caught.value.stream is stream


@pytest.mark.parametrize("act", [lambda peer: peer.send(b"x"), Peer.finish, Peer.reset], ids=["bytes", "FIN", "RST"])
def test_has_input(streams: Make, act: Callable[[Peer], Any]) -> None:
    peer, stream = streams()
    assert not stream.has_input()
    act(peer)
    assert stream.has_input()


# --- writing ------------------------------------------------------------------------------------


def test_a_write_hands_over_all_of_it(streams: Make) -> None:
    peer, stream = streams()
    stream.write(b"hello")
    assert (stream.sent, stream.moved) == (5, 5)
    assert peer.receive(5) == b"hello"


def test_a_write_waits_for_room(streams: Make) -> None:
    peer, stream = streams(peer_buffer=4096, our_buffer=4096)
    data = bytes(range(256)) * 4000
    writing = gevent.spawn(stream.write, data)
    eventually(lambda: stream.wants_room)
    assert 0 < stream.sent < len(data)
    assert peer.receive(len(data)) == data
    writing.get(timeout=TIMEOUT)
    assert stream.sent == len(data)
    assert not stream.wants_room


def test_reading_goes_on_while_a_write_waits(streams: Make) -> None:
    peer, stream = streams(peer_buffer=4096, our_buffer=4096)
    writing = gevent.spawn(stream.write, bytes(1_000_000))
    eventually(lambda: stream.wants_room)
    peer.send(b"meanwhile")
    assert stream.read() == b"meanwhile"
    assert stream.wants_room
    peer.receive(1_000_000)
    writing.get(timeout=TIMEOUT)


def test_a_write_to_who_has_reset_names_its_stream(streams: Make) -> None:
    peer, stream = streams()
    peer.reset()
    with pytest.raises(PeerReset) as caught:
        stream.write(b"hello")
    assert caught.value.stream is stream
    assert stream.sent == 0


def test_a_reset_ends_a_write_that_waits(streams: Make) -> None:
    peer, stream = streams(peer_buffer=4096, our_buffer=4096)
    writing = gevent.spawn(stream.write, bytes(1_000_000))
    eventually(lambda: stream.wants_room)
    peer.reset()
    with pytest.raises(PeerReset) as caught:
        writing.get(timeout=TIMEOUT)
    assert caught.value.stream is stream
    assert not stream.wants_room


# --- bulk -----------------------------------------------------------------------------------------


def move(source: Stream, sink: Stream, size: int) -> int:
    """Splice until so much has moved, or the source has ended."""
    moved = 0
    while moved < size and (part := source.splice_to(sink, size - moved)):
        moved += part
    return moved


def test_bytes_move_from_one_stream_to_another(streams: Make) -> None:
    one, source = streams()
    other, sink = streams()
    data = bytes(range(256)) * 10_000
    sending, moving = gevent.spawn(one.send, data), gevent.spawn(move, source, sink, len(data))
    assert other.receive(len(data)) == data
    sending.get(timeout=TIMEOUT)
    assert moving.get(timeout=TIMEOUT) == len(data)
    assert (source.received, source.sent) == (len(data), 0)
    assert (sink.received, sink.sent) == (0, len(data))


def test_no_more_moves_than_was_asked_for(streams: Make) -> None:
    one, source = streams()
    other, sink = streams()
    one.send(b"body and more")
    assert source.splice_to(sink, 4) == 4
    assert other.receive(4) == b"body"
    assert source.read() == b" and more"


def test_nothing_moves_from_a_source_that_has_ended(streams: Make) -> None:
    one, source = streams()
    _, sink = streams()
    one.finish()
    assert source.splice_to(sink, 100) == 0
    assert source.read() == b""


def test_without_a_pipe_nothing_moves_and_nothing_is_lost(streams: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIPES, "_fixed", 0)
    one, source = streams()
    _, sink = streams()
    one.send(b"hello")
    assert source.splice_to(sink, 5) == 0
    assert source.read() == b"hello"


def test_a_sink_that_takes_no_more_stops_the_source(streams: Make) -> None:
    one, source = streams()
    other, sink = streams(peer_buffer=4096, our_buffer=4096)
    size = 20_000_000
    sending, moving = gevent.spawn(one.send, bytes(size)), gevent.spawn(move, source, sink, size)
    eventually(lambda: sink.wants_room)
    assert not moving.dead
    assert source.received - sink.sent <= 1 << 20
    assert other.receive(size) == bytes(size)
    assert moving.get(timeout=TIMEOUT) == size
    sending.get(timeout=TIMEOUT)


@pytest.mark.parametrize("who", ["source", "sink"])
def test_a_reset_amid_bulk_tells_whose(streams: Make, who: str) -> None:
    one, source = streams()
    other, sink = streams(peer_buffer=4096, our_buffer=4096)
    one.send(bytes(60_000))
    moving = gevent.spawn(move, source, sink, 1_000_000)
    eventually(lambda: sink.wants_room)
    if who == "source":
        other.receive(60_000)
        eventually(lambda: not sink.wants_room)
        one.reset()
    else:
        other.reset()
    with pytest.raises(PeerReset) as caught:
        moving.get(timeout=TIMEOUT)
    assert caught.value.stream is (source if who == "source" else sink)
    assert PIPES._made == len(PIPES._free)  # its pipe is back, or closed


def test_a_pipe_with_bytes_of_an_ended_session_is_not_kept(streams: Make) -> None:
    one, source = streams()
    other, sink = streams(peer_buffer=4096, our_buffer=4096)
    one.send(bytes(60_000))
    moving = gevent.spawn(source.splice_to, sink, 60_000)
    eventually(lambda: sink.wants_room)
    other.reset()
    with pytest.raises(PeerReset):
        moving.get(timeout=TIMEOUT)
    assert PIPES._free == []


# --- interrupted ------------------------------------------------------------------------------------


def test_an_interruption_ends_a_read(streams: Make) -> None:
    peer, stream = streams()
    reading = gevent.spawn(stream.read)
    gevent.sleep(0)
    get_hub().loop.run_callback(stream.interrupt, Stop)
    assert isinstance(reading.get(timeout=TIMEOUT), Stop)
    peer.send(b"for the next one")
    assert stream.read() == b"for the next one"


def test_an_interruption_ends_a_write(streams: Make) -> None:
    _, stream = streams(peer_buffer=4096, our_buffer=4096)
    writing = gevent.spawn(stream.write, bytes(1_000_000))
    eventually(lambda: stream.wants_room)
    get_hub().loop.run_callback(stream.interrupt, Stop)
    assert isinstance(writing.get(timeout=TIMEOUT), Stop)
    assert not stream.wants_room


def test_an_interruption_ends_a_reader_and_a_writer(streams: Make) -> None:
    _, stream = streams(peer_buffer=4096, our_buffer=4096)
    writing, reading = gevent.spawn(stream.write, bytes(1_000_000)), gevent.spawn(stream.read)
    eventually(lambda: stream.wants_room)
    get_hub().loop.run_callback(stream.interrupt, Stop)
    assert isinstance(writing.get(timeout=TIMEOUT), Stop)
    assert isinstance(reading.get(timeout=TIMEOUT), Stop)


def test_an_interruption_of_nobody_is_nothing(streams: Make) -> None:
    peer, stream = streams()
    stream.interrupt(Stop)
    peer.send(b"hello")
    assert stream.read() == b"hello"


def test_a_reader_that_was_killed_leaves_the_stream_to_the_next(streams: Make) -> None:
    peer, stream = streams()
    first = gevent.spawn(stream.read)
    gevent.sleep(0)
    first.kill()
    second = gevent.spawn(stream.read)
    gevent.sleep(0)
    peer.send(b"hello")
    assert second.get(timeout=TIMEOUT) == b"hello"


def test_a_reader_that_was_interrupted_is_not_woken_by_what_comes(streams: Make) -> None:
    """It may be waiting for something else by then."""
    peer, stream = streams()
    told: list[bytes | None] = []
    stream.on_idle(lambda: told.append(stream.read_now()))

    def look() -> str:
        with pytest.raises(Stop):
            stream.read()
        return str(get_hub().switch())

    looking = gevent.spawn(look)
    gevent.sleep(0)
    get_hub().loop.run_callback(stream.interrupt, Stop)
    gevent.sleep(0)
    peer.send(b"hello")
    eventually(lambda: told)
    assert not looking.dead
    get_hub().loop.run_callback(looking.switch, "the other thing")
    assert looking.get(timeout=TIMEOUT) == "the other thing"


# --- while nobody reads -----------------------------------------------------------------------------


def test_the_idle_callback_is_told_of_bytes(streams: Make) -> None:
    peer, stream = streams()
    seen: list[bytes | None] = []
    stream.on_idle(lambda: seen.append(stream.read_now()))
    peer.send(b"hello")
    eventually(lambda: seen)
    assert seen == [b"hello"]


def test_the_idle_callback_is_not_told_while_somebody_reads(streams: Make) -> None:
    peer, stream = streams()
    told: list[None] = []
    stream.on_idle(lambda: told.append(None))
    reading = gevent.spawn(stream.read)
    gevent.sleep(0)
    peer.send(b"hello")
    assert reading.get(timeout=TIMEOUT) == b"hello"
    assert told == []


def test_an_idle_callback_is_told_of_what_was_there_before_it(streams: Make) -> None:
    peer, stream = streams()
    peer.send(b"hello")
    eventually(lambda: not stream.watching)  # nobody wanted it
    seen: list[bytes | None] = []
    stream.on_idle(lambda: seen.append(stream.read_now()))
    eventually(lambda: seen)
    assert seen == [b"hello"]


def test_the_watcher_rests_when_nobody_wants_what_has_come(streams: Make) -> None:
    """It is level-triggered: if it stayed, the loop would spin."""
    peer, stream = streams()
    peer.send(b"hello")
    eventually(lambda: not stream.watching)
    assert stream.read() == b"hello"
    assert stream.watching


def test_a_reader_finds_a_watcher_that_stays(streams: Make) -> None:
    peer, stream = streams()
    for _ in range(3):
        peer.send(b"hello")
        assert stream.read() == b"hello"
        assert stream.watching


def test_a_callback_that_pauses_is_told_once(streams: Make) -> None:
    peer, stream = streams()
    told: list[None] = []

    def enough() -> None:
        told.append(None)
        stream.pause()

    stream.on_idle(enough)
    peer.send(b"hello")
    eventually(lambda: told)
    peer.send(b" again")
    rounds()
    assert told == [None]
    assert stream.read() == b"hello again"


def test_without_a_callback_any_more_what_comes_stays_in_the_kernel(streams: Make) -> None:
    peer, stream = streams()
    told: list[None] = []
    stream.on_idle(lambda: told.append(None))
    stream.on_idle(None)
    peer.send(b"hello")
    eventually(lambda: not stream.watching)
    assert told == []
    assert stream.read() == b"hello"


# --- ending -----------------------------------------------------------------------------------------


def test_a_released_socket_is_the_caller_s(streams: Make) -> None:
    peer, stream = streams()
    told: list[None] = []
    stream.on_idle(lambda: told.append(None))
    sock = stream.release()
    assert not stream.open
    assert stream.idle_callback is None
    peer.send(b"hello")
    rounds()
    assert told == []
    assert sock.recv(10) == b"hello"


def test_close_ends_in_order(streams: Make) -> None:
    peer, stream = streams()
    stream.write(b"last")
    stream.close()
    assert peer.rest() == (b"last", End.FIN)
    assert not stream.open


def test_close_after_release(streams: Make) -> None:
    peer, stream = streams()
    stream.release()
    stream.close()
    assert peer.rest() == (b"", End.FIN)


def test_reset_takes_back_what_looks_like_an_end(streams: Make) -> None:
    peer, stream = streams()
    stream.reset()
    assert peer.rest() == (b"", End.RESET)


def test_a_unix_socket_can_t_be_told_from_another(streams: Make) -> None:
    peer, stream = streams(unix=True)
    stream.write(b"hello")
    assert peer.receive(5) == b"hello"
    peer.sock.shutdown(socket.SHUT_RD)
    with pytest.raises(PeerReset):
        stream.write(b"more")


def test_words_for_an_operator(streams: Make) -> None:
    _, stream = streams()
    stream.write(b"hello")
    assert repr(stream) == f"<Stream {stream.sock.fileno()}, 5 bytes moved>"
