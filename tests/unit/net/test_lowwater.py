"""LowWaterMark: which bodies get a mark, how high it is, and that no byte is kept back by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gproxy.core.http.bodies import LengthReader
from gproxy.http import download
from gproxy.http.download import BackendCutOff, relay_length
from gproxy.net import lowwater
from gproxy.net.lowwater import TICK, LowWaterMark
from gproxy.net.stream import Stream
from tests.support.clock import FakeClock
from tests.support.loopback import TIMEOUT, Peer, mark_of, pair

KIB, MIB = 1024, 1024 * 1024


class Timer:
    """A timer of the loop's that the test lets run out."""

    def __init__(self) -> None:
        self.tick: Callable[[], None] | None = None
        self.closed = False

    def start(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def stop(self) -> None:
        self.tick = None

    def close(self) -> None:
        self.closed = True


class Body:
    """A body of `left` bytes that comes as fast as the test says, with its mark on a real socket."""

    def __init__(self, sock: Any, left: int = 1000 * MIB):
        self.clock = FakeClock()
        self.timers: list[Timer] = []
        self.left = left
        loop = SimpleNamespace(now=self.clock, timer=self._timer)
        self.stream = SimpleNamespace(received=5000, sock=sock, hub=SimpleNamespace(loop=loop))
        self.mark = LowWaterMark(self.stream)  # type: ignore[arg-type]

    def _timer(self, after: float, repeat: float) -> Timer:
        assert (after, repeat) == (TICK, TICK)
        self.timers.append(Timer())
        return self.timers[-1]

    def comes(self, size: int, *, within: float = 0.0) -> None:
        self.clock.advance(within)
        self.stream.received += size
        self.left -= size
        self.mark.moved(self.left)

    def tick(self) -> None:
        self.clock.advance(TICK)
        (running,) = (timer.tick for timer in self.timers if timer.tick is not None)
        running()

    @property
    def value(self) -> int:
        return mark_of(self.stream.sock)


@pytest.fixture
def sock() -> Iterator[Any]:
    peer, ours = pair()
    yield ours
    peer.close()
    ours.close()


def test_a_fast_body_comes_in_a_quarter_of_a_tick_s_bytes_at_a_time(sock):
    body = Body(sock)
    body.comes(MIB, within=0.010)
    assert (body.mark.watching, body.value) == (True, 1)
    body.comes(600 * KIB)
    body.tick()
    assert body.value == 150 * KIB
    body.comes(400 * KIB)
    body.tick()
    assert body.value == 100 * KIB


def test_the_mark_has_a_bound(sock):
    body = Body(sock)
    body.comes(MIB)
    body.comes(100 * MIB)
    body.tick()
    assert body.value == 256 * KIB


def test_a_slow_body_has_neither_mark_nor_timer(sock):
    body = Body(sock)
    for _ in range(20):
        body.comes(MIB, within=0.011)
    assert (body.timers, body.value) == ([], 1)


def test_a_body_that_becomes_fast_later_gets_a_mark(sock):
    body = Body(sock)
    body.comes(MIB, within=1)
    body.comes(MIB, within=0.010)
    body.comes(MIB)
    body.tick()
    assert body.value == 256 * KIB


def test_a_short_body_has_no_timer(sock):
    body = Body(sock, left=MIB)
    body.comes(MIB - 1)
    assert (body.timers, body.value) == ([], 1)


def test_a_tick_without_bytes_takes_the_mark_and_the_timer_away(sock):
    body = Body(sock)
    body.comes(MIB)
    body.comes(MIB)
    body.tick()
    assert body.value == 256 * KIB
    body.tick()
    assert (body.value, body.mark.watching) == (1, False)
    assert all(timer.closed for timer in body.timers)


def test_a_body_that_is_fast_again_gets_a_mark_again(sock):
    body = Body(sock)
    body.comes(MIB)
    body.tick()
    body.comes(MIB, within=0.010)
    body.comes(MIB)
    body.tick()
    assert body.value == 256 * KIB


def test_the_mark_is_never_above_what_is_still_to_come(sock):
    body = Body(sock, left=4 * MIB)
    body.comes(MIB)
    body.comes(MIB)
    body.tick()
    assert body.value == 256 * KIB
    body.comes(2 * MIB - 255 * KIB)
    assert body.value == 1
    body.tick()  # fast enough for one
    assert body.value == 1


def test_afterwards_the_connection_is_as_before(sock):
    body = Body(sock)
    body.comes(MIB)
    body.comes(MIB)
    body.tick()
    body.mark.stop()
    assert (body.value, body.mark.watching) == (1, False)
    body.mark.stop()  # twice does no harm


def test_a_connection_that_was_closed_meanwhile(sock):
    body = Body(sock)
    body.comes(MIB)
    body.comes(MIB)
    body.tick()
    sock.close()
    body.mark.stop()
    assert not body.mark.watching


def test_a_kernel_without_marks_changes_nothing():
    def refuse(*_: int) -> None:
        raise OSError(92, "Protocol not available")

    body = Body(SimpleNamespace(setsockopt=refuse))
    body.comes(MIB)
    body.comes(MIB)
    body.tick()
    body.mark.stop()
    assert not body.mark.watching


# --- over real connections -------------------------------------------------------------------------


@pytest.fixture
def always_fast(monkeypatch):
    """Every body counts as fast, and every tick with bytes sets a mark as high as they were many."""
    monkeypatch.setattr(lowwater, "FAST", (64 * KIB, 3600.0))
    monkeypatch.setattr(lowwater, "LEAST", 2)
    monkeypatch.setattr(lowwater, "PIECES", 1)


@pytest.fixture
def ends() -> Iterator[tuple[Peer, Stream, Peer, Stream]]:
    backend_peer, backend = pair()
    client_peer, client = pair()
    streams = Stream(backend, get_hub()), Stream(client, get_hub())
    yield backend_peer, streams[0], client_peer, streams[1]
    for end in (backend_peer, client_peer, *streams):
        end.close()


@pytest.mark.usefixtures("always_fast")
def test_a_body_that_stalls_hands_out_all_that_has_come(ends):
    origin, backend, client_end, client = ends
    size = 4 * MIB
    relaying = gevent.spawn(relay_length, backend, client, b"", b"", LengthReader(size))
    sent = 0
    for piece in (MIB, 10, MIB, 1):  # each too short for the mark that the rate before it had set
        origin.send(bytes(piece))
        assert client_end.receive(piece) == bytes(piece)
        sent += piece
    origin.send(bytes(size - sent))
    assert client_end.receive(size - sent) == bytes(size - sent)
    assert relaying.get(timeout=TIMEOUT) == b""


@pytest.mark.usefixtures("always_fast")
def test_after_a_body_a_short_answer_on_the_same_connection_comes_at_once(ends):
    origin, backend, client_end, client = ends
    size = 8 * MIB
    relaying = gevent.spawn(relay_length, backend, client, b"", b"", LengthReader(size))
    sending = gevent.spawn(origin.send, bytes(size))
    assert client_end.receive(size) == bytes(size)
    relaying.get(timeout=TIMEOUT)
    sending.get(timeout=TIMEOUT)
    assert mark_of(backend.sock) == 1
    origin.send(b"ok")
    assert backend.read() == b"ok"


@pytest.mark.usefixtures("always_fast")
def test_an_end_amid_the_body_is_seen_below_the_mark(ends, monkeypatch):
    made = []
    monkeypatch.setattr(download, "LowWaterMark", lambda stream: made.append(LowWaterMark(stream)) or made[0])
    origin, backend, client_end, client = ends
    relaying = gevent.spawn(relay_length, backend, client, b"", b"", LengthReader(64 * MIB))
    origin.send(bytes(2 * MIB))
    assert client_end.receive(2 * MIB) == bytes(2 * MIB)
    origin.send(b"and no more")
    origin.finish()
    assert client_end.receive(11) == b"and no more"
    with pytest.raises(BackendCutOff):
        relaying.get(timeout=TIMEOUT)
    assert mark_of(backend.sock) == 1
    assert not made[0].watching
