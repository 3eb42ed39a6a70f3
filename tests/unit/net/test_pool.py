"""ConnectionPool: each of its rules, with real connections and a clock that the test moves."""

from __future__ import annotations

from _socket import socket as Socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub
from gevent.event import Event

from gproxy.core.settings import PoolSettings, Reuse
from gproxy.errors import DialError, DialFailure
from gproxy.net.pool import ConnectionPool, PooledConnection, PoolEvent
from gproxy.net.stream import Stream
from tests.support.clock import FakeClock
from tests.support.loopback import Peer, descriptors, pair
from tests.support.poll import eventually


class Dialler:
    """Dials; the far ends are kept in the order of the dials."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.tries = 0
        self.refuse = False
        self.wait_for = Event()
        self.wait_for.set()

    def __call__(self) -> Socket:
        self.tries += 1
        self.wait_for.wait()
        if self.refuse:
            raise DialError(DialFailure.REFUSED, "refused")
        peer, sock = pair()
        self.peers.append(peer)
        return sock


class Bench:
    """A pool with everything that it was given."""

    def __init__(self, **settings: Any):
        self.clock = FakeClock()
        self.dialler = self.dial = Dialler()
        self.events: list[PoolEvent] = []
        self.freed = 0
        self.pool_event = self.events.append
        self.closed_after: list[float] = []
        self.idle_closed = self.closed_after.append
        limit = settings.pop("max_connections", None)
        self.pool = ConnectionPool(
            PoolSettings(**{"reuse": Reuse.QUIESCENT, **settings}),
            self,
            max_connections=limit,
            clock=self.clock,
        )
        self._lent: list[PooledConnection] = []

    def slot_freed(self) -> None:
        self.freed += 1

    def borrow(self) -> PooledConnection:
        self.pool.reserve()
        connection = self.pool.connect()
        self._lent.append(connection)
        return connection

    def give_back(self, *connections: PooledConnection) -> None:
        for connection in connections:
            self.pool.release(connection, reusable=True)

    def filled(self, count: int) -> list[PooledConnection]:
        """So many idle connections, the first returned first."""
        connections = [self.borrow() for _ in range(count)]
        self.give_back(*connections)
        return connections

    def preconnected(self, count: int) -> None:
        """Sweep, and wait for so many fresh ones."""
        self.pool.sweep(self.clock())
        eventually(lambda: self.pool.idle == count, what=f"{count} dialled ahead")

    def close(self) -> None:
        self.pool.close()
        for connection in self._lent:
            connection.close()
        for peer in self.dialler.peers:
            peer.close()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches; afterwards no descriptor may be left."""
    before = descriptors()
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert descriptors() == before


Make = Callable[..., Bench]


# --- lending and returning ---------------------------------------------------------------


def test_an_empty_pool_dials(bench: Make) -> None:
    b = bench()
    connection = b.borrow()
    assert not connection.reused
    connection.sock.send(b"hello")
    assert b.dialler.peers[0].receive(5) == b"hello"


def test_the_one_returned_last_is_lent_first(bench: Make) -> None:
    b = bench()
    first, second, third = b.filled(3)
    assert [b.borrow(), b.borrow(), b.borrow()] == [third, second, first]
    assert all(connection.reused for connection in (first, second, third))
    assert b.dialler.tries == 3


def test_without_a_verdict_it_is_not_kept(bench: Make) -> None:
    b = bench()
    connection = b.borrow()
    b.pool.release(connection)
    assert b.pool.idle == b.pool.borrowed == 0


def test_a_failed_dial_leaves_the_slot_to_its_owner(bench: Make) -> None:
    b = bench()
    b.dialler.refuse = True
    with pytest.raises(DialError):
        b.borrow()
    assert b.pool.borrowed == 1
    b.pool.release(None)
    assert b.pool.borrowed == 0


def test_returning_to_a_full_pool_closes_the_oldest(bench: Make) -> None:
    b = bench(size=2)
    first, second, third = b.filled(3)
    assert b.pool.idle == 2
    assert first.sock.fileno() == -1
    assert b.events == [PoolEvent.OVERFLOW]
    assert [b.borrow(), b.borrow()] == [third, second]


def test_repr_tells_its_state(bench: Make) -> None:
    b = bench(size=3)
    b.filled(2)
    b.borrow()
    assert repr(b.pool) == "<ConnectionPool 1 borrowed, 1 of 3 idle>"
    limited = bench(max_connections=5)
    assert repr(limited.pool) == "<ConnectionPool 0 borrowed of 5, 0 of 10 idle>"
    connection = limited.borrow()
    assert repr(connection) == f"<PooledConnection {connection.sock.fileno()}, 1 uses>"


# --- how long one lives -----------------------------------------------------------------


@pytest.mark.parametrize("look", ["borrow", "sweep"])
def test_idle_for_too_long(bench: Make, look: str) -> None:
    b = bench(idle_timeout=60.0)
    (old,) = b.filled(1)
    b.clock.advance(59.9)
    b.pool.sweep(b.clock())
    assert b.pool.idle == 1
    b.clock.advance(0.1)
    if look == "sweep":
        b.pool.sweep(b.clock())
    else:
        assert b.borrow() is not old
    assert b.pool.idle == 0
    assert old.sock.fileno() == -1
    assert b.events == []  # as it should be: nothing to count


def test_each_return_starts_its_idle_time_anew(bench: Make) -> None:
    b = bench(idle_timeout=60.0)
    (connection,) = b.filled(1)
    for _ in range(3):
        b.clock.advance(50)
        assert b.borrow() is connection
        b.give_back(connection)


@pytest.mark.parametrize("look", ["borrow", "sweep", "return"])
def test_too_old(bench: Make, look: str) -> None:
    b = bench(idle_timeout=10_000.0, max_age=3600.0)
    (old,) = b.filled(1)
    b.clock.advance(3599)
    assert b.borrow() is old
    if look == "return":
        b.clock.advance(1)
    b.give_back(old)
    if look != "return":
        b.clock.advance(1)
    if look == "sweep":
        b.pool.sweep(b.clock())
    if look == "borrow":
        assert b.borrow() is not old
    assert old.sock.fileno() == -1
    assert b.pool.idle == 0


def test_used_up(bench: Make) -> None:
    b = bench(max_uses=3)
    connection = b.borrow()
    for _ in range(2):
        b.give_back(connection)
        assert b.borrow() is connection
    b.give_back(connection)
    assert b.pool.idle == 0
    assert connection.sock.fileno() == -1


# --- watched while idle -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happens", "event"),
    [
        (Peer.close, PoolEvent.STALE),
        (Peer.reset, PoolEvent.STALE),
        (lambda peer: peer.send(b"unasked"), PoolEvent.DIRTY),
        (lambda peer: (peer.send(b"bye"), peer.close()), PoolEvent.STALE),
    ],
    ids=["FIN", "RST", "bytes", "bytes and FIN"],
)
def test_whatever_makes_an_idle_connection_readable_ends_it(
    bench: Make, happens: Callable[[Peer], Any], event: PoolEvent
) -> None:
    b = bench()
    (connection,) = b.filled(1)
    happens(b.dialler.peers[0])
    eventually(lambda: not b.pool.idle, what="evicted without anybody asking")
    assert b.events == [event]
    assert connection.sock.fileno() == -1


@pytest.mark.parametrize(
    ("happens", "event"),
    [
        (Peer.close, PoolEvent.STALE),
        (Peer.reset, PoolEvent.STALE),
        (lambda peer: peer.send(b"unasked"), PoolEvent.DIRTY),
    ],
    ids=["FIN", "RST", "bytes"],
)
def test_a_borrower_looks_once_more(bench: Make, happens: Callable[[Peer], Any], event: PoolEvent) -> None:
    """The hub has not run since, so the watcher can't have seen it."""
    b = bench()
    good, bad = b.filled(2)
    happens(b.dialler.peers[1])
    assert b.borrow() is good
    assert b.events == [event]
    assert bad.sock.fileno() == -1


def test_a_borrowed_connection_is_not_watched(bench: Make) -> None:
    b = bench()
    b.filled(1)
    connection = b.borrow()
    b.dialler.peers[0].send(b"answer")
    gevent.sleep(0)
    assert connection.sock.recv(10) == b"answer"
    assert b.events == []


def test_an_eviction_frees_a_place(bench: Make) -> None:
    b = bench()
    b.filled(1)
    freed = b.freed
    b.dialler.peers[0].close()
    eventually(lambda: b.freed == freed + 1)


# --- emptied ---------------------------------------------------------------------------------


def test_empty_closes_what_is_idle_and_nothing_else(bench: Make) -> None:
    b = bench()
    lent, idle = b.borrow(), b.borrow()
    b.give_back(idle)
    b.pool.empty()
    assert b.pool.idle == 0
    assert idle.sock.fileno() == -1
    assert lent.sock.fileno() != -1
    assert b.pool.borrowed == 1


def test_while_its_backend_is_out_nothing_comes_back(bench: Make) -> None:
    b = bench()
    connection = b.borrow()
    b.pool.wanted = False
    b.give_back(connection)
    assert b.pool.idle == 0
    assert connection.sock.fileno() == -1


def test_nothing_comes_back_to_a_closed_pool(bench: Make) -> None:
    b = bench()
    connection = b.borrow()
    b.pool.close()
    b.give_back(connection)
    assert b.pool.idle == 0
    assert connection.sock.fileno() == -1


# --- limits ------------------------------------------------------------------------------------


def test_a_limit_is_reached_by_reservations(bench: Make) -> None:
    """A slot is taken before its dial, so that two at once can't both have the last one."""
    b = bench(max_connections=2)
    b.pool.reserve()
    assert not b.pool.full
    b.pool.reserve()
    assert b.pool.full
    b.pool.release(None)
    assert not b.pool.full
    assert b.freed == 1


def test_without_a_limit_it_is_never_full(bench: Make) -> None:
    b = bench()
    for _ in range(100):
        b.pool.reserve()
    assert not b.pool.full


def test_the_limit_bounds_borrowed_and_idle_together(bench: Make) -> None:
    b = bench(max_connections=3, preconnect=3)
    alive = lambda: sum(peer.sock.fileno() != -1 for peer in b.dialler.peers)  # noqa: E731
    connections = [b.borrow() for _ in range(3)]
    b.pool.sweep(b.clock())
    gevent.sleep(0)
    assert alive() == 3
    b.give_back(connections[0])
    b.pool.sweep(b.clock())
    gevent.sleep(0)
    assert (b.pool.borrowed, b.pool.idle, b.dialler.tries) == (2, 1, 3)
    assert b.borrow() is connections[0]
    assert b.dialler.tries == 3


def test_idle_connections_leave_room_for_borrowers(bench: Make) -> None:
    b = bench(max_connections=2)
    b.filled(2)
    assert not b.pool.full
    assert b.borrow().reused


# --- dialled ahead -------------------------------------------------------------------------------


def test_fresh_connections_are_kept_ready(bench: Make) -> None:
    b = bench(reuse=Reuse.NEVER, preconnect=2)
    b.preconnected(2)
    connection = b.borrow()
    assert not connection.reused
    b.preconnected(2)  # another one took its place
    assert b.dialler.tries == 3
    assert b.pool.borrowed == 1


def test_borrowing_one_has_the_next_dialled(bench: Make) -> None:
    b = bench(preconnect=1)
    b.preconnected(1)
    b.borrow()
    eventually(lambda: b.pool.idle == 1, what="without a sweep")


def test_a_greeting_waits_for_its_first_user(bench: Make) -> None:
    b = bench(preconnect=1)
    b.preconnected(1)
    b.dialler.peers[0].send(b"220 ready")
    eventually(lambda: b.pool._idle.queue[0].greeted)
    assert b.pool.idle == 1
    connection = b.borrow()
    assert connection.sock.recv(100) == b"220 ready"
    assert b.events == []


def test_a_greeting_that_the_hub_has_not_seen_yet(bench: Make) -> None:
    b = bench(preconnect=1)
    b.preconnected(1)
    b.dialler.peers[0].send(b"220 ready")
    assert b.borrow().sock.recv(100) == b"220 ready"


def test_a_greeted_connection_that_was_closed_is_not_lent(bench: Make) -> None:
    b = bench(preconnect=1)
    b.preconnected(1)
    b.dialler.peers[0].send(b"220 ready")
    eventually(lambda: b.pool._idle.queue[0].greeted)
    b.dialler.peers[0].close()
    b.borrow()
    assert b.dialler.tries >= 2
    assert b.events == [PoolEvent.STALE]


def test_a_sweep_finds_a_greeted_connection_that_was_closed(bench: Make) -> None:
    b = bench(preconnect=1)
    b.preconnected(1)
    greeted = b.pool._idle.queue[0]
    b.dialler.peers[0].send(b"220 ready")
    eventually(lambda: greeted.greeted)
    b.dialler.peers[0].close()
    b.pool.sweep(b.clock())
    assert greeted.sock.fileno() == -1
    b.preconnected(1)


def test_a_greeting_is_no_excuse_after_the_first_use(bench: Make) -> None:
    b = bench(preconnect=0)
    b.filled(1)
    b.dialler.peers[0].send(b"220 ready")
    eventually(lambda: b.events == [PoolEvent.DIRTY])


def test_failed_dials_ahead_back_off(bench: Make) -> None:
    b = bench(preconnect=1)
    b.dialler.refuse = True

    def sweep_and_count() -> int:
        b.pool.sweep(b.clock())
        gevent.sleep(0)
        return b.dialler.tries

    tries = [sweep_and_count()]
    for _ in range(4):
        b.clock.advance(1.0)
        tries.append(sweep_and_count())
    assert tries == [1, 2, 2, 3, 3]  # after 1 s, then after 2 s, then 4 s
    assert b.pool.borrowed == 0


def test_the_back_off_is_bounded_and_ends_with_a_success(bench: Make) -> None:
    b = bench(preconnect=1)
    b.dialler.refuse = True
    for _ in range(10):
        b.clock.advance(30.0)
        b.pool.sweep(b.clock())
        gevent.sleep(0)
    assert b.dialler.tries == 10  # never more than 30 s apart

    b.dialler.refuse = False
    b.clock.advance(30.0)
    b.preconnected(1)
    b.dialler.refuse = True
    b.pool.empty()
    tries = b.dialler.tries
    for expected in (1, 2):
        b.pool.sweep(b.clock())
        gevent.sleep(0)
        assert b.dialler.tries == tries + expected
        b.clock.advance(1.0)


def test_nothing_is_dialled_ahead_for_a_backend_that_is_out(bench: Make) -> None:
    b = bench(preconnect=1)
    b.pool.wanted = False
    b.pool.sweep(b.clock())
    gevent.sleep(0)
    assert b.dialler.tries == 0


def test_a_dial_ahead_that_ends_after_its_backend_went_out_is_not_kept(bench: Make) -> None:
    b = bench(preconnect=1)
    b.dialler.wait_for.clear()
    b.pool.sweep(b.clock())
    eventually(lambda: b.dialler.tries)
    b.pool.wanted = False
    b.pool.empty()
    b.dialler.wait_for.set()
    eventually(lambda: b.dialler.peers)
    assert b.dialler.peers[0].rest()[0] == b""
    assert b.pool.idle == b.pool.borrowed == 0


def test_closing_the_pool_ends_a_dial_ahead(bench: Make) -> None:
    b = bench(preconnect=1)
    b.dialler.wait_for.clear()
    b.pool.sweep(b.clock())
    eventually(lambda: b.pool.borrowed == 1)
    b.pool.close()
    eventually(lambda: b.pool.borrowed == 0)
    assert b.dialler.peers == []


def test_a_dial_ahead_holds_a_slot_while_it_lasts(bench: Make) -> None:
    b = bench(preconnect=1, max_connections=1)
    b.dialler.wait_for.clear()
    b.pool.sweep(b.clock())
    eventually(lambda: b.dialler.tries)
    assert b.pool.full
    b.dialler.wait_for.set()
    eventually(lambda: b.pool.idle == 1)
    assert not b.pool.full
    assert b.freed


# --- none that was used before ---------------------------------------------------------------------


def test_a_fresh_connection_is_dialled_though_others_are_idle(bench: Make) -> None:
    b = bench()
    (used,) = b.filled(1)
    b.pool.reserve()
    fresh = b.pool.connect(fresh=True)
    b._lent.append(fresh)
    assert fresh is not used
    assert (fresh.uses, b.pool.idle) == (1, 1)


def test_a_fresh_connection_makes_room_under_a_limit(bench: Make) -> None:
    b = bench(max_connections=2)
    oldest, _ = b.filled(2)
    b.pool.reserve()
    b._lent.append(b.pool.connect(fresh=True))
    assert oldest.sock.fileno() == -1
    assert (b.pool.borrowed, b.pool.idle) == (1, 1)


# --- what is known of the backend's own idle time ------------------------------------------------------


def test_none_is_lent_after_the_backend_s_idle_time(bench: Make) -> None:
    b = bench()
    (used,) = b.filled(1)
    b.pool.idle_limit = 4.0
    b.clock.advance(3.9)
    assert b.borrow() is used
    b.give_back(used)
    b.clock.advance(4.0)
    assert b.borrow() is not used
    assert used.sock.fileno() == -1
    assert b.events == []  # as it should be: nothing to count


def test_a_sweep_closes_what_is_past_the_backend_s_idle_time(bench: Make) -> None:
    b = bench()
    b.pool.idle_limit = 4.0
    b.filled(1)
    b.clock.advance(3.9)
    b.pool.sweep(b.clock())
    assert b.pool.idle == 1
    b.clock.advance(0.1)
    b.pool.sweep(b.clock())
    assert b.pool.idle == 0


def test_a_used_connection_that_the_backend_closed_tells_its_idle_time(bench: Make) -> None:
    b = bench()
    b.filled(1)
    b.clock.advance(7.0)
    b.dialler.peers[0].close()
    eventually(lambda: not b.pool.idle)
    assert b.closed_after == [7.0]


def test_a_borrower_learns_of_it_too(bench: Make) -> None:
    b = bench()
    b.filled(1)
    b.clock.advance(7.0)
    b.dialler.peers[0].close()
    b.borrow()
    assert b.closed_after == [7.0]


def test_a_connection_that_nobody_used_tells_nothing(bench: Make) -> None:
    """It may have waited for a first request only so long."""
    b = bench(preconnect=1)
    b.preconnected(1)
    b.clock.advance(7.0)
    b.dialler.peers[0].close()
    eventually(lambda: b.events == [PoolEvent.STALE])
    assert b.closed_after == []


def test_bytes_out_of_turn_tell_nothing_of_idle_times(bench: Make) -> None:
    b = bench()
    b.filled(1)
    b.clock.advance(7.0)
    b.dialler.peers[0].send(b"unasked")
    eventually(lambda: not b.pool.idle)
    assert b.closed_after == []


# --- connections with a stream ---------------------------------------------------------------------------


def streamed(b: Bench, count: int = 1) -> list[PooledConnection]:
    """So many idle connections that their streams watch, the first returned first."""
    connections = [b.borrow() for _ in range(count)]
    for connection in connections:
        connection.attach(Stream(connection.sock, get_hub()), b.pool)
    b.give_back(*connections)
    return connections


def stream_of(connection: PooledConnection) -> Stream:
    assert connection.stream is not None
    return connection.stream


def test_a_stream_outlives_the_exchanges(bench: Make) -> None:
    b = bench()
    (connection,) = streamed(b)
    stream = connection.stream
    assert b.borrow() is connection
    assert connection.stream is stream
    b.dialler.peers[0].send(b"answer")
    assert stream_of(connection).read() == b"answer"
    assert b.events == []


@pytest.mark.parametrize(
    ("happens", "event"),
    [
        (Peer.close, PoolEvent.STALE),
        (Peer.reset, PoolEvent.STALE),
        (lambda peer: peer.send(b"unasked"), PoolEvent.DIRTY),
        (lambda peer: (peer.send(b"bye"), peer.close()), PoolEvent.STALE),
    ],
    ids=["FIN", "RST", "bytes", "bytes and FIN"],
)
def test_a_stream_is_watched_while_it_is_idle(bench: Make, happens: Callable[[Peer], Any], event: PoolEvent) -> None:
    b = bench()
    (connection,) = streamed(b)
    freed = b.freed
    happens(b.dialler.peers[0])
    eventually(lambda: not b.pool.idle, what="evicted without anybody asking")
    assert b.events == [event]
    assert not stream_of(connection).open
    assert connection.sock.fileno() == -1
    assert b.freed == freed + 1


@pytest.mark.parametrize(
    ("happens", "event"),
    [(Peer.close, PoolEvent.STALE), (Peer.reset, PoolEvent.STALE), (lambda peer: peer.send(b"x"), PoolEvent.DIRTY)],
    ids=["FIN", "RST", "bytes"],
)
def test_a_borrower_of_a_stream_looks_once_more(bench: Make, happens: Callable[[Peer], Any], event: PoolEvent) -> None:
    b = bench()
    good, bad = streamed(b, 2)
    happens(b.dialler.peers[1])
    assert b.borrow() is good
    assert b.events == [event]
    assert bad.sock.fileno() == -1


def test_what_was_left_over_when_it_came_back_evicts_it(bench: Make) -> None:
    b = bench()
    (connection,) = streamed(b)
    b.borrow()
    b.dialler.peers[0].send(b"left over")
    b.give_back(connection)
    eventually(lambda: not b.pool.idle)
    assert b.events == [PoolEvent.DIRTY]
    assert connection.sock.fileno() == -1


def test_what_was_left_over_evicts_it_though_its_watcher_had_paused(bench: Make) -> None:
    b = bench()
    (connection,) = streamed(b)
    b.borrow()
    b.dialler.peers[0].send(b"left over")
    eventually(lambda: not stream_of(connection).watching)
    b.give_back(connection)
    eventually(lambda: not b.pool.idle)
    assert b.events == [PoolEvent.DIRTY]


def test_a_lent_stream_is_none_of_the_pool_s(bench: Make) -> None:
    b = bench()
    (connection,) = streamed(b)
    b.borrow()
    b.dialler.peers[0].send(b"answer")
    eventually(lambda: not stream_of(connection).watching)  # the loop has seen it
    assert b.events == []
    assert stream_of(connection).read() == b"answer"


def test_while_its_backend_is_out_no_stream_comes_back(bench: Make) -> None:
    b = bench()
    (connection,) = streamed(b)
    b.borrow()
    b.pool.wanted = False
    b.give_back(connection)
    assert b.pool.idle == 0
    assert not stream_of(connection).open
    assert b.dialler.peers[0].rest()[0] == b""


def test_emptying_the_pool_closes_streams(bench: Make) -> None:
    b = bench()
    (connection,) = streamed(b)
    b.pool.empty()
    assert b.pool.idle == 0
    assert not stream_of(connection).open


def test_a_connection_dialled_ahead_changes_its_watcher_for_a_stream(bench: Make) -> None:
    b = bench(preconnect=1, max_connections=1)
    b.preconnected(1)
    connection = b.borrow()
    connection.attach(Stream(connection.sock, get_hub()), b.pool)
    b.give_back(connection)
    b.dialler.peers[0].send(b"unasked")
    eventually(lambda: b.events == [PoolEvent.DIRTY])
    assert connection.sock.fileno() == -1
