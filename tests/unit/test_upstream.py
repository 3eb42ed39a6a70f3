"""Backends and upstreams: who is eligible, and what a failed dial leads to."""

from __future__ import annotations

import logging
from _socket import socket as Socket
from collections import Counter
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import gevent
import pytest

from gproxy import config
from gproxy.core.balance import RoundRobin, RouteRequest
from gproxy.core.health import Administrative, Operational
from gproxy.errors import DialError, DialFailure
from gproxy.metrics import MetricsCollector, Slot
from gproxy.net.connection import Endpoint
from gproxy.net.dial import dial
from gproxy.router import Router
from gproxy.shared import BackendLine, Shared
from gproxy.upstream import Backend, Exclusion, Upstream
from tests.support.clock import FakeClock
from tests.support.configs import make_config
from tests.support.loopback import TIMEOUT, PlayedBackend, pair
from tests.support.poll import eventually
from tests.support.upstreams import make_upstream, refuse

EJECT = "passive_health: {connect_failures: 2, eject_for: 10, max_ejected_percent: 50}"


def fail(backend: Backend, count: int = 2) -> None:
    for _ in range(count):
        with pytest.raises(DialError):
            backend.dial()


def observe(backend: Backend, *results: bool) -> None:
    for result in results:
        if backend.health.observe(result, rise=2, fall=3):
            backend.upstream.flipped(backend, "check passed" if result else "check failed: refused")


def able(upstream: Upstream) -> list[str]:
    return [backend.name for backend in upstream.standing(upstream.clock()).candidates]


# --- dialling ----------------------------------------------------------------------------


class Dialled:
    """Notes what was dialled; fails as it is told, else gives a connection."""

    def __init__(self, failure: DialFailure | None = None):
        self.failure = failure
        self.calls: list[tuple[str, float]] = []
        self._open: list[Any] = []

    def __call__(self, endpoint: Endpoint, timeout: float) -> Socket:
        self.calls.append((str(endpoint), timeout))
        if self.failure is not None:
            raise DialError(self.failure, str(endpoint))
        peer, sock = pair()
        self._open += [peer, sock]
        return sock

    def close(self) -> None:
        for end in self._open:
            end.close()


@pytest.fixture
def dialled() -> Iterator[Dialled]:
    dialled = Dialled()
    yield dialled
    dialled.close()


def test_a_dial_is_counted_and_timed(dialled: Dialled) -> None:
    upstream = make_upstream("", keys="backend_connect_timeout: 3", dial=dialled)
    (backend,) = upstream.backends
    backend.dial()
    assert dialled.calls == [("127.0.0.1:1", 3.0)]
    assert (backend.stats.connects, backend.stats.connect_failures) == (1, 0)
    assert sum(upstream.metrics.connect_time.counts()) == 1


def test_a_policy_may_note_things_on_a_backend_and_keep_it_weakly() -> None:
    """Compiled classes don't allow that by themselves."""
    backend: Any = make_upstream("").backends[0]
    backend.zone = "north"
    assert backend.zone == "north"
    assert WeakKeyDictionary({backend: 1})[backend] == 1


@pytest.mark.parametrize(("failure", "timeouts"), [(DialFailure.REFUSED, 0), (DialFailure.TIMEOUT, 1)])
def test_a_failed_dial_is_counted(failure: DialFailure, timeouts: int) -> None:
    (backend,) = make_upstream("", dial=Dialled(failure)).backends
    fail(backend, 1)
    assert (backend.stats.connects, backend.stats.connect_failures, backend.stats.timeouts) == (0, 1, timeouts)


def test_addresses_are_dialled_by_turns(dialled: Dialled) -> None:
    (backend,) = make_upstream("", dial=dialled).backends
    (one,) = backend.endpoints
    backend.endpoints = (one, one.with_port(2), one.with_port(3))
    for _ in range(6):
        backend.dial()
    ports = [endpoint.rpartition(":")[2] for endpoint, _ in dialled.calls]
    assert sorted(ports[:3]) == sorted(ports[3:]) == ["1", "2", "3"]


def test_every_address_is_tried_before_a_dial_fails() -> None:
    dialled = Dialled(DialFailure.REFUSED)
    (backend,) = make_upstream("", dial=dialled).backends
    (one,) = backend.endpoints
    backend.endpoints = (one, one.with_port(2))
    fail(backend, 1)
    assert len(dialled.calls) == 2
    assert backend.stats.connect_failures == 1


# --- ejection ---------------------------------------------------------------------------


def test_failed_dials_in_a_row_eject(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    upstream = make_upstream("", "", keys=EJECT, clock=clock)
    fail(upstream.backends[0], 1)
    assert able(upstream) == ["b1", "b2"]
    fail(upstream.backends[0], 1)
    assert able(upstream) == ["b2"]
    assert upstream.backends[0].stats.ejections == 1
    assert [record.getMessage() for record in caplog.records] == [
        "backend app/b1 ejected for 10 s: 127.0.0.1:1: refused"
    ]


def test_an_ejection_ends_by_itself(clock: FakeClock) -> None:
    upstream = make_upstream("", "", keys=EJECT, clock=clock)
    fail(upstream.backends[0])
    clock.advance(9.9)
    assert able(upstream) == ["b2"]
    clock.advance(0.1)
    assert able(upstream) == ["b1", "b2"]


def test_a_success_in_between_starts_the_count_again(clock: FakeClock) -> None:
    dialled = Dialled(DialFailure.REFUSED)
    upstream = make_upstream("", "", keys=EJECT, clock=clock, dial=dialled)
    backend = upstream.backends[0]
    for _ in range(3):
        fail(backend, 1)
        dialled.failure = None
        backend.dial()
        dialled.failure = DialFailure.REFUSED
    assert able(upstream) == ["b1", "b2"]
    dialled.close()


@pytest.mark.parametrize("failure", [DialFailure.RESOURCES, DialFailure.NO_ADDRESS])
def test_our_own_shortage_ejects_nobody(clock: FakeClock, failure: DialFailure) -> None:
    upstream = make_upstream("", "", keys=EJECT, clock=clock, dial=Dialled(failure))
    fail(upstream.backends[0], 10)
    assert able(upstream) == ["b1", "b2"]
    assert upstream.backends[0].stats.connect_failures == 10


def test_only_a_share_may_be_ejected_at_once(clock: FakeClock) -> None:
    upstream = make_upstream("", "", "", "", keys=EJECT, clock=clock)
    for backend in upstream.backends:
        fail(backend, 5)
    assert able(upstream) == ["b3", "b4"]
    clock.advance(10)  # the first two are back, and the others' failures are remembered
    fail(upstream.backends[2], 1)
    assert able(upstream) == ["b1", "b2", "b4"]


def test_the_only_backend_is_not_ejected(clock: FakeClock) -> None:
    upstream = make_upstream("", keys=EJECT, clock=clock)
    fail(upstream.backends[0], 5)
    assert able(upstream) == ["b1"]


def test_a_backend_that_the_checks_find_up_again_is_readmitted(clock: FakeClock) -> None:
    upstream = make_upstream("", "", keys=EJECT, clock=clock)
    backend = upstream.backends[0]
    fail(backend)
    observe(backend, False)
    assert backend.exclusion(clock()) is Exclusion.DOWN
    clock.advance(1)
    observe(backend, True, True)
    assert backend.exclusion(clock()) is None
    assert able(upstream) == ["b1", "b2"]


def test_checks_that_pass_all_along_do_not_end_an_ejection(clock: FakeClock) -> None:
    """A backend may answer probes and refuse sessions."""
    upstream = make_upstream("", "", keys=EJECT, clock=clock)
    backend = upstream.backends[0]
    observe(backend, True)
    fail(backend)
    observe(backend, True, True, True)
    assert able(upstream) == ["b2"]


# --- the standing ----------------------------------------------------------------------


def test_the_standing_is_worked_out_once(clock: FakeClock) -> None:
    upstream = make_upstream("", "", clock=clock)
    standing = upstream.standing(clock())
    clock.advance(1000)
    assert upstream.standing(clock()) is standing
    assert standing.candidates is upstream.standing(clock()).candidates  # policies keep what they know of a tuple


def test_a_flip_renews_it(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    upstream = make_upstream("", "", clock=clock)
    backend = upstream.backends[0]
    observe(backend, True)
    before = upstream.standing(clock())
    observe(backend, False, False)
    assert upstream.standing(clock()) is before
    observe(backend, False)
    assert upstream.standing(clock()).excluded == (("b1", "down"),)
    observe(backend, True, True)
    assert able(upstream) == ["b1", "b2"]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "backend app/b1 is up: check passed"),
        ("WARNING", "backend app/b1 is down: check failed: refused"),
        ("INFO", "backend app/b1 is up: check passed"),
    ]


def test_an_operator_renews_it(clock: FakeClock) -> None:
    upstream = make_upstream("", "", clock=clock)
    assert able(upstream) == ["b1", "b2"]
    upstream.backends[0].set_administrative(Administrative.MAINT)
    assert able(upstream) == ["b2"]
    upstream.backends[0].set_administrative(Administrative.READY)
    assert able(upstream) == ["b1", "b2"]


def test_the_end_of_the_first_of_two_ejections_renews_it(clock: FakeClock) -> None:
    upstream = make_upstream("", "", "", "", keys=EJECT, clock=clock)
    fail(upstream.backends[0])
    clock.advance(5)
    fail(upstream.backends[1])
    assert able(upstream) == ["b3", "b4"]
    clock.advance(5)
    assert able(upstream) == ["b1", "b3", "b4"]
    clock.advance(5)
    assert able(upstream) == ["b1", "b2", "b3", "b4"]


def test_never_checked_counts_as_up(clock: FakeClock) -> None:
    assert able(make_upstream("", clock=clock)) == ["b1"]


# --- who waits for a slot ------------------------------------------------------------------


def waiting(upstream: Upstream) -> Any:
    """A session in the queue; it gets a backend when there is one."""

    def attempt() -> Backend | None:
        candidates = upstream.standing(upstream.clock()).candidates
        free = [backend for backend in candidates if not backend.pool.full]
        for backend in free[:1]:
            backend.pool.reserve()
        return free[0] if free else None

    assert attempt() is None  # as a session's first look
    waiter = gevent.spawn(upstream.queue.wait, attempt, lambda backend: backend.pool.release(None), 10.0)
    eventually(lambda: len(upstream.queue) == 1)
    return waiter


def test_a_slot_that_comes_free_goes_to_who_waits(clock: FakeClock) -> None:
    upstream = make_upstream("max_connections: 1", clock=clock)
    backend = upstream.backends[0]
    backend.pool.reserve()
    waiter = waiting(upstream)
    backend.pool.release(None)
    assert backend.active == 1  # handed over at once
    assert waiter.get() is backend


def test_a_backend_that_comes_up_serves_who_waits(clock: FakeClock) -> None:
    upstream = make_upstream("", clock=clock)
    backend = upstream.backends[0]
    observe(backend, False)
    waiter = waiting(upstream)
    observe(backend, True, True)
    assert waiter.get() is backend


def test_an_ejection_that_ends_serves_who_waits(clock: FakeClock) -> None:
    upstream = make_upstream("", "", keys=EJECT, clock=clock)
    fail(upstream.backends[0])
    upstream.backends[1].set_administrative(Administrative.MAINT)
    waiter = waiting(upstream)
    upstream.sweep(clock())
    assert not waiter.ready()
    clock.advance(10)
    upstream.sweep(clock())
    assert waiter.get() is upstream.backends[0]


def test_who_waits_for_the_end_of_an_ejection_comes_before_a_newcomer(clock: FakeClock) -> None:
    upstream = make_upstream("max_connections: 1", "", keys=EJECT, clock=clock)
    fail(upstream.backends[0])
    upstream.backends[1].set_administrative(Administrative.MAINT)
    waiter = waiting(upstream)
    clock.advance(10)  # and no sweep has looked yet
    newcomer = Router().route(upstream, RouteRequest("192.0.2.1", "web"))
    assert (newcomer.backend, newcomer.queued) == (None, True)
    assert len(upstream.queue) == 0
    assert waiter.get() is upstream.backends[0]


def test_a_sweep_serves_who_waits(clock: FakeClock) -> None:
    """Whatever set something free, and whoever forgot to say so."""
    upstream = make_upstream("", clock=clock)
    backend = upstream.backends[0]
    free: list[Backend] = []
    upstream.standing(clock())
    waiter = gevent.spawn(upstream.queue.wait, lambda: free[0] if free else None, lambda _backend: None, TIMEOUT)
    eventually(lambda: len(upstream.queue) == 1)
    free.append(backend)
    upstream.sweep(clock())
    assert len(upstream.queue) == 0
    assert waiter.get() is backend


# --- going down ------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["down", "maint", "drain"])
def test_the_pool_of_a_backend_that_goes_out_is_emptied(clock: FakeClock, dialled: Dialled, out: str) -> None:
    upstream = make_upstream("", keys="pool: {reuse: quiescent}", clock=clock, dial=dialled)
    (backend,) = upstream.backends
    backend.pool.reserve()
    connection = backend.pool.connect()
    backend.pool.release(connection, reusable=True)
    assert backend.pool.idle == 1
    if out == "down":
        observe(backend, False, False, False)
    else:
        backend.set_administrative(Administrative(out))
    assert backend.pool.idle == 0
    assert connection.sock.fileno() == -1


@pytest.mark.parametrize(("action", "told"), [("keep", []), ("close_sessions", ["b1"])])
def test_sessions_are_ended_only_if_that_is_wanted(clock: FakeClock, action: str, told: list[str]) -> None:
    upstream = make_upstream("", "", keys=f"down_action: {action}", clock=clock)
    heard: list[str] = []
    upstream.on_down = lambda backend: heard.append(backend.name)
    observe(upstream.backends[0], False)
    assert heard == told
    observe(upstream.backends[0], True, True)
    assert heard == told


# --- gauges, counters, words ----------------------------------------------------------------


def test_a_sweep_brings_the_gauges_up_to_date(clock: FakeClock) -> None:
    upstream = make_upstream("max_connections: 2", "", keys=EJECT, clock=clock)
    first, second = upstream.backends
    first.pool.reserve()
    fail(second)
    upstream.sweep(clock())
    stats = first.stats, second.stats
    assert [(s.active, s.pool_idle, s.healthy, s.ejected, s.queue) for s in stats] == [(1, 0, 1, 0, 0), (0, 0, 1, 1, 0)]


def test_those_who_wait_count_for_the_backends_that_are_full(clock: FakeClock) -> None:
    upstream = make_upstream("max_connections: 1", "", clock=clock)
    upstream.backends[0].pool.reserve()
    upstream.backends[1].set_administrative(Administrative.MAINT)
    waiter = waiting(upstream)
    upstream.sweep(clock())
    assert [backend.stats.queue for backend in upstream.backends] == [1, 0]
    waiter.kill()


@pytest.mark.parametrize(
    ("happens", "slot"),
    [("close", Slot.POOL_STALE), ("speak", Slot.POOL_DIRTY), ("overflow", Slot.POOL_OVERFLOW)],
)
def test_what_happens_in_the_pool_is_counted(happens: str, slot: int) -> None:
    with PlayedBackend() as played:

        def to_played(_endpoint: Endpoint, timeout: float) -> Socket:
            return dial(played.endpoint, timeout)

        upstream = make_upstream("", keys="pool: {reuse: quiescent, size: 1}", dial=to_played)
        pool = upstream.backends[0].pool
        connections = []
        for _ in range(2 if happens == "overflow" else 1):
            pool.reserve()
            connections.append(pool.connect())
        for connection in connections:
            pool.release(connection, reusable=True)
        if happens == "close":
            played.accept().close()
        elif happens == "speak":
            played.accept().send(b"unasked")
        eventually(lambda: upstream.metrics.view[slot] == 1)
        upstream.close()
        assert pool.idle == 0


def test_words_for_an_operator(clock: FakeClock) -> None:
    upstream = make_upstream("", "backup: true", keys=EJECT, clock=clock)
    assert repr(upstream) == "<Upstream app 1 of 2 can serve, 0 wait>"
    text = repr(upstream.backends[0])
    assert text.startswith("<Backend app/b1 ")
    assert "never ejected" in text
    assert "0 borrowed" in text


# --- what http sessions tell -------------------------------------------------------------------------

JUDGED = "passive_health: {server_errors: 2, eject_for: 10, max_ejected_percent: 50}"


def judged(clock: FakeClock) -> Upstream:
    """One that ejects after two responses of 500 and above."""
    backends = ", ".join(f'{{name: b{n}, address: "127.0.0.1:{n}"}}' for n in (1, 2))
    listener = '{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}'
    text = f"listeners: [{listener}]\nupstreams: {{app: {{backends: [{backends}], {JUDGED}}}}}"
    (settings,) = config.parse(text, "test", {}).upstreams
    metrics = MetricsCollector([("app", backend.name) for backend in settings.backends])
    return Upstream(settings, metrics, lambda _members: RoundRobin(), dial=refuse, clock=clock)


def test_errors_in_a_row_eject(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    upstream = judged(clock)
    one, _ = upstream.backends
    one.responded(500)
    assert able(upstream) == ["b1", "b2"]
    one.responded(503)
    assert able(upstream) == ["b2"]
    assert one.stats.ejections == 1
    assert "2 responses of 500 and above in a row" in caplog.text
    clock.advance(10.0)
    assert able(upstream) == ["b1", "b2"]


@pytest.mark.parametrize("status", [200, 304, 404, 499])
def test_any_other_response_starts_the_count_again(clock: FakeClock, status: int) -> None:
    upstream = judged(clock)
    for each in (500, status, 500):
        upstream.backends[0].responded(each)
    assert able(upstream) == ["b1", "b2"]


def test_only_a_share_may_be_ejected_for_errors(clock: FakeClock) -> None:
    upstream = judged(clock)
    for backend in upstream.backends:
        backend.responded(500)
        backend.responded(500)
    assert able(upstream) == ["b2"]


def test_a_promised_idle_time_shortens_the_pool_s(clock: FakeClock) -> None:
    (backend,) = make_upstream("", clock=clock).backends
    backend.idle_promised(5.0)
    assert backend.pool.idle_limit == 4.0
    backend.idle_promised(20.0)
    assert backend.pool.idle_limit == 4.0  # the shortest counts


def test_what_was_learned_of_idle_times_is_forgotten(clock: FakeClock) -> None:
    upstream = make_upstream("", clock=clock)
    (backend,) = upstream.backends
    backend.idle_promised(5.0)
    clock.advance(601.0)
    upstream.sweep(clock())
    assert backend.pool.idle_limit == float("inf")


def test_a_closing_is_learned_of(clock: FakeClock) -> None:
    (backend,) = make_upstream("", clock=clock).backends
    backend.idle_closed(10.0)
    assert backend.pool.idle_limit == 8.0


def test_a_limited_backend_leaves_no_plain_candidates(clock: FakeClock) -> None:
    assert make_upstream("", "max_connections: 1", clock=clock).standing(clock()).plain == ()
    free = make_upstream("", "", clock=clock)
    assert free.standing(clock()).plain == free.backends


def test_a_backup_is_no_plain_candidate(clock: FakeClock) -> None:
    upstream = make_upstream("", "backup: true", clock=clock)
    assert [backend.name for backend in upstream.standing(clock()).plain] == ["b1"]


def test_a_backend_that_goes_out_wants_none_of_its_connections_back(clock: FakeClock) -> None:
    upstream = make_upstream("", "", clock=clock)
    one, _ = upstream.backends
    one.set_administrative(Administrative.DRAIN)
    assert not one.pool.wanted
    one.set_administrative(Administrative.READY)
    assert one.pool.wanted


# --- what other processes say ---------------------------------------------------------


def told(**values: Any) -> BackendLine:
    """A line of the board of another process."""
    line = Shared(make_config()).line("app", "b1")
    for name, value in values.items():
        setattr(line, name, value)
    return line


def test_a_backend_follows_what_others_find_out(clock: FakeClock) -> None:
    upstream = make_upstream("", "", clock=clock)
    one, _ = upstream.backends
    assert able(upstream) == ["b1", "b2"]
    one.follow(told(operational=Operational.DOWN))
    assert able(upstream) == ["b2"]
    assert one.stats.healthy == 0
    one.follow(told(operational=Operational.UP))
    assert able(upstream) == ["b1", "b2"]
    assert one.stats.healthy == 1


@pytest.mark.parametrize("state", [Administrative.DRAIN, Administrative.MAINT])
def test_a_backend_follows_what_an_operator_wants(clock: FakeClock, state: Administrative) -> None:
    upstream = make_upstream("", "", clock=clock)
    one, _ = upstream.backends
    assert able(upstream) == ["b1", "b2"]
    one.follow(told(administrative=state))
    assert able(upstream) == ["b2"]
    one.follow(told())
    assert able(upstream) == ["b1", "b2"]


def test_what_is_no_news_changes_nothing(clock: FakeClock) -> None:
    upstream = make_upstream("", "", clock=clock)
    one, _ = upstream.backends
    line = told(operational=Operational.UP, weight=3)
    one.follow(line)
    standing = upstream.standing(clock())
    one.follow(line)
    assert upstream.known is standing


def test_a_backend_that_others_find_up_again_is_readmitted(clock: FakeClock) -> None:
    upstream = make_upstream("", "", keys=EJECT, clock=clock)
    one, _ = upstream.backends
    fail(one)
    one.follow(told(operational=Operational.DOWN))
    clock.advance(1)
    one.follow(told(operational=Operational.UP))
    assert able(upstream) == ["b1", "b2"]


def test_sessions_end_with_a_backend_that_others_find_down(clock: FakeClock) -> None:
    upstream = make_upstream("", "", keys="down_action: close_sessions", clock=clock)
    ended: list[Backend] = []
    upstream.on_down = ended.append
    one, _ = upstream.backends
    one.follow(told(operational=Operational.UP))
    one.follow(told(operational=Operational.DOWN))
    one.follow(told(operational=Operational.DOWN))
    assert ended == [one]


def test_a_told_weight_counts_for_the_turns_until_it_is_taken_back(clock: FakeClock) -> None:
    upstream = make_upstream("", "weight: 2", clock=clock)
    one, two = upstream.backends
    one.follow(told(weight=6))
    two.follow(told())
    assert (one.weight, two.weight) == (6, 2)
    assert Counter(chosen(upstream, "") for _ in range(8)) == {"b1": 6, "b2": 2}
    one.follow(told())
    assert Counter(chosen(upstream, "") for _ in range(6)) == {"b1": 2, "b2": 4}


def chosen(upstream: Upstream, client: str) -> str:
    candidates = upstream.standing(upstream.clock()).candidates
    return upstream.policy.choose(candidates, RouteRequest(client, "web")).name


CLIENTS = [f"10.0.{n // 250}.{n % 250}" for n in range(1000)]


def owners(upstream: Upstream) -> dict[str, str]:
    return {client: chosen(upstream, client) for client in CLIENTS}


def test_a_told_weight_moves_a_hash_ring_s_clients_to_it_alone(clock: FakeClock) -> None:
    upstream = make_upstream("", "", "", keys="balance: source_hash", clock=clock)
    before = owners(upstream)
    upstream.backends[0].follow(told(weight=4))
    after = owners(upstream)
    moved = [client for client in CLIENTS if after[client] != before[client]]
    assert moved
    assert {after[client] for client in moved} == {"b1"}
    assert Counter(after.values())["b1"] == pytest.approx(4 / 6 * len(CLIENTS), rel=0.2)
    upstream.backends[0].follow(told())
    assert owners(upstream) == before


def test_a_ring_of_told_weights_is_that_of_configured_ones(clock: FakeClock) -> None:
    """Workers that were told agree with workers that start later."""
    upstream = make_upstream("", "", keys="balance: source_hash", clock=clock)
    upstream.backends[1].follow(told(weight=3))
    assert owners(upstream) == owners(make_upstream("", "weight: 3", keys="balance: source_hash", clock=clock))


def test_a_backend_inherits_how_long_its_connections_may_idle(clock: FakeClock) -> None:
    (one,) = make_upstream("", clock=clock).backends
    one.inherit(told(idle_limit=4.0, operational=Operational.DOWN))
    one.publish(clock())
    assert one.pool.idle_limit == 4.0
    assert one.health.operational is Operational.DOWN


def test_what_it_learns_of_idle_connections_later_processes_inherit(clock: FakeClock) -> None:
    (one,) = make_upstream("", clock=clock).backends
    line = told()
    one.inherit(line)
    one.publish(clock())
    assert line.idle_limit is None
    one.idle_promised(5.0)
    one.publish(clock())
    assert line.idle_limit == one.pool.idle_limit == 4.0


def test_it_says_nothing_of_who_serves_where_another_process_does(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = make_upstream("", clock=clock)
    (one,) = upstream.backends
    for speaks in (False, True):
        upstream.speaks = speaks
        one.follow(told(operational=Operational.DOWN))
        one.follow(told(operational=Operational.UP))
    assert caplog.messages == ["upstream app: no backend can serve", "upstream app can serve again"]
