"""Search: how an exchange comes by a connection, and that it holds no slot when it does not."""

from __future__ import annotations

from _socket import socket as Socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gproxy.core.balance import RouteRequest
from gproxy.core.health import Administrative
from gproxy.errors import DialError, DialFailure
from gproxy.metrics import MetricsCollector
from gproxy.net.connection import Endpoint
from gproxy.router import Router
from gproxy.search import NotServed, Search
from gproxy.service import Common, Service, Target
from gproxy.stories import PlainChoice
from gproxy.upstream import Backend, Upstream
from tests.support.clock import FakeClock
from tests.support.loopback import TIMEOUT, Peer, pair
from tests.support.poll import eventually
from tests.support.upstreams import make_upstream

REQUEST = RouteRequest("192.0.2.1", "web")


def chosen(backend: Backend) -> PlainChoice:
    """As the plain exchange has chosen it."""
    upstream, now = backend.upstream, backend.upstream.clock()
    return now, upstream, REQUEST, upstream.standing(now), backend, None, b"GET", b"/", b"id"


class Dialler:
    """Fails for the ports that it is told of, else gives a connection."""

    def __init__(self) -> None:
        self.dialled: list[int] = []
        self.failures: dict[int, DialFailure] = {}
        self.timeouts: list[float] = []
        self.peers: list[Peer] = []

    def __call__(self, endpoint: Endpoint, timeout: float) -> Socket:
        port = endpoint.sockaddr[1]
        self.dialled.append(port)
        self.timeouts.append(timeout)
        if port in self.failures:
            raise DialError(self.failures[port], f"{endpoint}: {self.failures[port]}")
        peer, sock = pair()
        self.peers.append(peer)
        return sock


class Server:
    """In the ProxyServer's place."""

    def __init__(self) -> None:
        self.paused: list[str] = []
        self.pause = self.paused.append


class Bench:
    """Searches of one service, each for a client of its own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.dialler = Dialler()
        self.clients: list[Peer] = []
        self._ours: list[Socket] = []
        self._upstreams: list[Upstream] = []
        self.searches: list[Search] = []
        self.server = Server()
        service: Any = Service("web", Common(Router(), MetricsCollector([], ["web"]), set(), clock=self.clock))
        service.server = self.server
        self.service = service

    def upstream(self, *backends: str, keys: str = "pool: {reuse: quiescent}") -> Upstream:
        made = make_upstream(*backends, keys=keys, clock=self.clock, dial=self.dialler)
        self._upstreams.append(made)
        return made

    def search(self, upstream: Upstream, overrides: tuple[tuple[str, float], ...] = ()) -> Search:
        client, ours = pair()
        self.clients.append(client)
        self._ours.append(ours)
        search = Search(self.service, Target.of(upstream, overrides), REQUEST, ours, self.clock())
        self.searches.append(search)
        return search

    def close(self) -> None:
        for search in self.searches:
            if search.connection is not None:
                search.connection.close()
        for upstream in self._upstreams:
            upstream.close()
        for sock in (*self.clients, *self._ours, *self.dialler.peers):
            sock.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def refused(search: Search, **kinds: Any) -> str:
    """The code under which it ends."""
    with pytest.raises(NotServed) as caught:
        search.connect(**kinds)
    return str(caught.value.code)


# --- found ---------------------------------------------------------------------------------------


def test_a_backend_with_a_fresh_connection(bench: Bench) -> None:
    upstream = bench.upstream("")
    search = bench.search(upstream)
    connection = search.connect()
    assert connection is search.connection
    assert (connection.uses, connection.reused) == (1, False)
    assert search.backend is upstream.backends[0]
    assert (search.retries, search.tried) == (0, ())
    assert upstream.active == 1


def test_a_backend_with_an_idle_connection(bench: Bench) -> None:
    upstream = bench.upstream("")
    (backend,) = upstream.backends
    first = bench.search(upstream).connect()
    backend.pool.release(first, reusable=True)
    assert bench.search(upstream).connect() is first
    assert first.reused
    assert (backend.stats.reuses, backend.stats.connects) == (1, 1)


def test_a_fresh_one_is_wanted_though_another_is_idle(bench: Bench) -> None:
    upstream = bench.upstream("")
    (backend,) = upstream.backends
    first = bench.search(upstream).connect()
    backend.pool.release(first, reusable=True)
    assert bench.search(upstream).connect(fresh=True) is not first
    assert backend.stats.reuses == 0


def test_the_times_of_a_search(bench: Bench) -> None:
    upstream = bench.upstream("")
    search = bench.search(upstream)
    dial = upstream.dial

    def slow(endpoint: Endpoint, timeout: float) -> Socket:
        bench.clock.advance(0.25)
        return dial(endpoint, timeout)

    upstream.dial = slow
    search.connect()
    assert (search.began, search.routed_at, search.connected_at) == (1000.0, 1000.0, 1000.25)


@pytest.mark.parametrize(("overrides", "timeout"), [((), 5.0), ((("backend_connect_timeout", 1.5),), 1.5)])
def test_the_time_for_a_dial(bench: Bench, overrides: tuple[tuple[str, float], ...], timeout: float) -> None:
    bench.search(bench.upstream(""), overrides).connect()
    assert bench.dialler.timeouts == [timeout]


# --- the next one ------------------------------------------------------------------------------------


def test_a_failed_dial_goes_on_to_the_next_backend(bench: Bench) -> None:
    bench.dialler.failures[1] = DialFailure.REFUSED
    upstream = bench.upstream("", "")
    search = bench.search(upstream)
    search.connect()
    one, two = upstream.backends
    assert (search.backend, search.tried, search.retries) == (two, (one,), 1)
    assert (one.stats.retries, two.stats.retries) == (1, 0)
    assert (one.active, two.active) == (0, 1)


def test_a_retry_counts_as_connecting(bench: Bench) -> None:
    bench.dialler.failures[1] = DialFailure.REFUSED
    search = bench.search(bench.upstream("", ""))
    dial = search.target.upstream.dial

    def slow(endpoint: Endpoint, timeout: float) -> Socket:
        bench.clock.advance(0.25)
        return dial(endpoint, timeout)

    search.target.upstream.dial = slow
    search.connect()
    assert (search.routed_at, search.connected_at) == (1000.0, 1000.5)


# --- nobody ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code"),
    [(DialFailure.REFUSED, "SC"), (DialFailure.TIMEOUT, "sC"), (DialFailure.RESOURCES, "RC")],
)
def test_no_slot_is_held_after_dials_that_failed(bench: Bench, failure: DialFailure, code: str) -> None:
    bench.dialler.failures = {1: failure, 2: failure, 3: failure}
    upstream = bench.upstream("", "", "")
    assert refused(bench.search(upstream)) == code
    assert upstream.active == 0


def test_a_shortage_of_ours_tries_nobody_else_and_stops_accepting(bench: Bench) -> None:
    bench.dialler.failures[1] = DialFailure.RESOURCES
    assert refused(bench.search(bench.upstream("", ""))) == "RC"
    assert bench.dialler.dialled == [1]
    assert len(bench.server.paused) == 1


def test_no_more_are_tried_than_configured(bench: Bench) -> None:
    bench.dialler.failures = dict.fromkeys((1, 2, 3), DialFailure.REFUSED)
    upstream = bench.upstream("", "", "", keys="retries: 1")
    search = bench.search(upstream)
    assert refused(search) == "SC"
    assert bench.dialler.dialled == [1, 2]
    assert search.retries == 1


def test_nobody_is_eligible(bench: Bench) -> None:
    upstream = bench.upstream("")
    upstream.backends[0].set_administrative(Administrative.MAINT)
    search = bench.search(upstream)
    assert refused(search) == "SC"
    assert (search.backend, search.routed_at, upstream.active) == (None, None, 0)


def test_no_slot_is_held_after_a_kill_amid_the_dial(bench: Bench) -> None:
    upstream = bench.upstream("")
    upstream.dial = lambda *_args: gevent.sleep(TIMEOUT)
    searching = gevent.spawn(bench.search(upstream).connect)
    eventually(lambda: upstream.active == 1)
    searching.kill()
    assert upstream.active == 0


# --- taken over -------------------------------------------------------------------------------------------


def test_a_slot_that_was_reserved_is_taken_over(bench: Bench) -> None:
    """The router is not asked: it would reserve another one."""
    upstream = bench.upstream("", "")
    two = upstream.backends[1]
    two.pool.reserve()
    search = bench.search(upstream)
    search.take_over(chosen(two), None)
    assert search.backend is two
    connection = search.connect()
    assert (search.backend, connection.uses) == (two, 1)
    assert bench.dialler.dialled == [2]
    assert upstream.active == 1
    assert search.routed_at == search.began


def test_a_connection_that_was_lent_is_taken_over(bench: Bench) -> None:
    upstream = bench.upstream("")
    connection = bench.search(upstream).connect()
    bench.clock.advance(3.0)
    search = bench.search(upstream)
    search.take_over(chosen(upstream.backends[0]), connection)
    assert (search.connection, search.backend) == (connection, upstream.backends[0])
    assert (search.routed_at, search.connected_at) == (1003.0, 1003.0)
    assert upstream.active == 1
    assert len(bench.dialler.dialled) == 1


def test_the_dial_of_a_slot_taken_over_may_fail(bench: Bench) -> None:
    bench.dialler.failures[2] = DialFailure.REFUSED
    upstream = bench.upstream("", "")
    one, two = upstream.backends
    two.pool.reserve()
    search = bench.search(upstream)
    search.take_over(chosen(two), None)
    search.connect()
    assert (search.backend, search.tried, search.retries) == (one, (two,), 1)
    assert (one.active, two.active) == (1, 0)


def test_no_slot_is_held_after_one_was_taken_over_for_nothing(bench: Bench) -> None:
    bench.dialler.failures[1] = DialFailure.REFUSED
    upstream = bench.upstream("")
    upstream.backends[0].pool.reserve()
    search = bench.search(upstream)
    search.take_over(chosen(upstream.backends[0]), None)
    assert refused(search) == "SC"
    assert upstream.active == 0


# --- the queue ----------------------------------------------------------------------------------------------


def full(bench: Bench, keys: str = "pool: {reuse: quiescent}") -> tuple[Upstream, Search]:
    """An upstream with a single slot, and the search that has it."""
    upstream = bench.upstream("max_connections: 1", keys=keys)
    first = bench.search(upstream)
    first.connect()
    return upstream, first


def queued(upstream: Upstream, search: Search) -> gevent.Greenlet:
    """A search that waits."""
    searching = gevent.spawn(search.connect)
    eventually(lambda: len(upstream.queue) == 1)
    return searching


def free(upstream: Upstream, search: Search) -> None:
    upstream.backends[0].pool.release(search.connection, reusable=True)


def test_a_slot_is_waited_for(bench: Bench) -> None:
    upstream, first = full(bench)
    second = bench.search(upstream)
    searching = queued(upstream, second)
    bench.clock.advance(2.0)
    free(upstream, first)
    assert searching.get(timeout=TIMEOUT) is first.connection
    assert (second.routed_at, second.connected_at) == (1002.0, 1002.0)
    assert second.backend is upstream.backends[0]
    assert (upstream.active, len(upstream.queue)) == (1, 0)


def test_no_slot_comes_free_in_time(bench: Bench) -> None:
    upstream, _ = full(bench, "queue_timeout: 0.05")
    assert refused(bench.search(upstream)) == "sQ"
    assert (upstream.active, len(upstream.queue)) == (1, 0)


def test_a_client_that_has_left_by_the_end_of_its_wait(bench: Bench) -> None:
    upstream, _ = full(bench, "queue_timeout: 0.05")
    search = bench.search(upstream)
    bench.clients[-1].reset()
    assert refused(search) == "CQ"


def test_a_client_that_has_left_gets_no_slot(bench: Bench) -> None:
    upstream, first = full(bench)
    searching = queued(upstream, bench.search(upstream))
    bench.clients[-1].reset()
    free(upstream, first)
    with pytest.raises(NotServed) as caught:
        searching.get(timeout=TIMEOUT)
    assert caught.value.code == "CQ"
    assert upstream.active == 0


@pytest.mark.parametrize("client", ["stays", "has left"])
def test_killed_in_the_queue(bench: Bench, client: str) -> None:
    upstream, _ = full(bench)
    searching = queued(upstream, bench.search(upstream))
    if client == "has left":
        bench.clients[-1].reset()
    searching.kill(block=False)
    with pytest.raises(NotServed) as caught:
        searching.get(timeout=TIMEOUT)
    assert caught.value.code == ("KQ" if client == "stays" else "CQ")
    assert (upstream.active, len(upstream.queue)) == (1, 0)


def test_a_slot_that_arrives_with_the_kill_is_given_back(bench: Bench) -> None:
    upstream, first = full(bench)
    searching = queued(upstream, bench.search(upstream))
    searching.kill(block=False)
    free(upstream, first)  # it is handed over at once, to one that is about to die
    with pytest.raises(NotServed):
        searching.get(timeout=TIMEOUT)
    assert upstream.active == 0


def test_who_was_refused_by_one_backend_waits_for_another(bench: Bench) -> None:
    bench.dialler.failures[2] = DialFailure.REFUSED
    upstream = bench.upstream("max_connections: 1", "max_connections: 1")
    first = bench.search(upstream)
    first.connect()
    second = bench.search(upstream)
    searching = queued(upstream, second)
    assert second.tried == (upstream.backends[1],)
    free(upstream, first)
    assert searching.get(timeout=TIMEOUT) is first.connection
    assert [b.active for b in upstream.backends] == [1, 0]


def test_words_for_an_operator(bench: Bench) -> None:
    upstream = bench.upstream("")
    search = bench.search(upstream)
    search.connect()
    assert repr(search) == f"<Search app, {upstream.backends[0]!r}, 0 tried>"
