"""Sessions of a tcp listener, in process: a client, gproxy, and backends that the test plays."""

from __future__ import annotations

import gc
import logging
from _socket import socket as Socket
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gproxy.core.termination import Ended
from gproxy.errors import DialError, DialFailure
from gproxy.metrics import Slot
from gproxy.net.connection import Endpoint
from gproxy.net.dial import dial
from tests.support.clock import FakeClock
from tests.support.embedded import Embedded, backend
from tests.support.loopback import TIMEOUT, End, Peer, PlayedBackend, descriptors
from tests.support.poll import eventually

QUIESCENT = "pool: {reuse: quiescent, quiescent_for: 20ms}"
GONE = backend("127.0.0.1:1")  # nobody listens there


@pytest.fixture
def played() -> Any:
    with PlayedBackend() as played:
        yield played


def exchange(client: Peer, server: Peer, question: bytes = b"ask", answer: bytes = b"answer") -> None:
    client.send(question)
    assert server.receive(len(question)) == question
    server.send(answer)
    assert client.receive(len(answer)) == answer


def passes_turns() -> None:
    for _ in range(10):
        gevent.sleep(0)


class Slow:
    """A dial that waits until it is told how to go on."""

    def __init__(self) -> None:
        self.go_on = Event()
        self.dialled = 0

    def __call__(self, endpoint: Endpoint, timeout: float) -> Socket:
        self.dialled += 1
        self.go_on.wait()
        return dial(endpoint, timeout)


# --- a session's life ---------------------------------------------------------------------


def test_a_session_from_accept_to_record(played: PlayedBackend) -> None:
    with Embedded(backend(played, "name: b1")) as proxy:
        client = proxy.connect()
        server = played.accept()
        exchange(client, server)
        assert proxy.counted(Slot.ACTIVE) == 1
        address = "{}:{}".format(*client.sock.getsockname())
        assert "to app/b1" in repr(proxy.sessions[0])
        client.close()
        assert server.rest() == (b"", End.FIN)
        server.close()
        (record,) = proxy.ended()

        assert (record.client, record.listener, record.upstream, record.backend) == (address, "web", "app", "b1")
        assert (record.bytes_in, record.bytes_out, record.code) == (3, 6, "--")
        assert (record.active, record.listener_active, record.upstream_active, record.backend_active) == (1, 1, 1, 1)
        assert (record.retries, record.reused) == (0, False)
        assert record.tw is not None
        assert record.tc is not None
        assert record.tt is not None
        assert 0 <= record.tw <= record.tw + record.tc <= record.tt
        assert (proxy.counted(Slot.ACTIVE), proxy.counted(Slot.CONNECTIONS_ACCEPTED)) == (0, 1)
        assert (proxy.counted(Slot.BYTES_IN), proxy.counted(Slot.BYTES_OUT)) == (3, 6)
        assert proxy.worker.metrics.snapshot().counters["sessions_closed.normal"] == 1
        assert proxy.service.upstream.active == 0


def test_a_backend_that_speaks_first(played: PlayedBackend) -> None:
    with Embedded(backend(played)) as proxy:
        client = proxy.connect()
        played.accept().send(b"220 ready\r\n")
        assert client.receive(11) == b"220 ready\r\n"


@pytest.mark.parametrize(("who", "code"), [("client", "CD"), ("backend", "SD")])
def test_a_reset_tells_who(played: PlayedBackend, who: str, code: str) -> None:
    with Embedded(backend(played)) as proxy:
        client = proxy.connect()
        server = played.accept()
        exchange(client, server)
        (client if who == "client" else server).reset()
        assert (server if who == "client" else client).rest() == (b"", End.RESET)
        assert proxy.codes() == [code]


def test_unix_sockets_on_both_sides(tmp_path: Any) -> None:
    with (
        PlayedBackend(tmp_path / "app.sock") as played,
        Embedded(backend(played), bind=f"unix:{tmp_path}/web.sock") as proxy,
    ):
        client = proxy.connect()
        server = played.accept()
        exchange(client, server)
        client.close()
        server.close()
        (record,) = proxy.ended()
        assert (record.client, record.code) == ("unix:", "--")


# --- who cannot be served ------------------------------------------------------------------


@pytest.mark.parametrize(("all_down", "end"), [("reset", End.RESET), ("close", End.FIN)])
def test_nobody_can_be_connected(all_down: str, end: End) -> None:
    with Embedded(GONE, upstream=f"all_down: {all_down}") as proxy:
        assert proxy.connect().rest() == (b"", end)
        (record,) = proxy.ended()
        assert (record.code, record.tc, record.bytes_in) == ("SC", None, 0)
        assert proxy.service.upstream.active == 0


def test_nobody_is_eligible(played: PlayedBackend) -> None:
    with Embedded(backend(played)) as proxy:
        one = proxy.service.upstream.backends[0]
        one.endpoints = ()
        proxy.service.upstream.changed(one)
        assert proxy.connect().rest() == (b"", End.RESET)
        (record,) = proxy.ended()
        assert (record.code, record.backend, record.tw) == ("SC", "", None)


def test_a_failed_dial_goes_on_to_the_next_backend(played: PlayedBackend) -> None:
    with Embedded('{name: gone, address: "127.0.0.1:1"}', backend(played, "name: b2")) as proxy:
        client = proxy.connect()
        exchange(client, played.accept())
        client.close()
        played.close()
        (record,) = proxy.ended()
        assert (record.backend, record.retries, record.code) == ("b2", 1, "--")
        gone = proxy.service.upstream.backends[0]
        assert (gone.stats.retries, gone.stats.connect_failures, gone.active) == (1, 1, 0)


def test_no_more_retries_than_configured(played: PlayedBackend) -> None:
    gone = [f'{{name: gone{n}, address: "127.0.0.1:1{n}"}}' for n in range(3)]
    with Embedded(*gone, backend(played), upstream="retries: 1") as proxy:
        assert proxy.connect().rest() == (b"", End.RESET)
        (record,) = proxy.ended()
        assert (record.code, record.retries) == ("SC", 1)


NEVER_EJECTED = "passive_health: {connect_failures: 0}"


def test_a_backend_that_works_is_always_tried(played: PlayedBackend) -> None:
    """However many sessions met the dead one first: nothing was sent, and somebody can serve."""
    with Embedded('{name: gone, address: "127.0.0.1:1"}', backend(played), upstream=NEVER_EJECTED) as proxy:
        for _ in range(10):
            proxy.connect()
            played.accept()
        assert proxy.service.upstream.backends[0].stats.retries == 10


def test_an_outage_of_all_is_met_with_few_retries() -> None:
    """Three in ten seconds are always allowed; after them a fifth of the sessions."""
    gone = [f'{{name: gone{port}, address: "127.0.0.1:{port}"}}' for port in (1, 2)]
    with Embedded(*gone, upstream=NEVER_EJECTED) as proxy:
        for _ in range(10):
            assert proxy.connect().rest() == (b"", End.RESET)
        assert proxy.codes() == ["SC"] * 10
        assert sum(b.stats.retries for b in proxy.service.upstream.backends) == 3


def test_a_dial_that_times_out_has_a_code_of_its_own() -> None:
    def late(_endpoint: Endpoint, _timeout: float) -> Socket:
        raise DialError(DialFailure.TIMEOUT, "too late")

    with Embedded(GONE, dial=late) as proxy:
        assert proxy.connect().rest() == (b"", End.RESET)
        assert proxy.codes() == ["sC"]


def test_our_own_shortage_ends_the_session_and_pauses_the_listener(played: PlayedBackend) -> None:
    dialled: list[Endpoint] = []

    def short(endpoint: Endpoint, _timeout: float) -> Socket:
        dialled.append(endpoint)
        raise DialError(DialFailure.RESOURCES, "no descriptor is left")

    with Embedded(GONE, backend(played), dial=short) as proxy:
        assert proxy.connect().rest() == (b"", End.RESET)
        assert proxy.codes() == ["RC"]
        assert len(dialled) == 1  # another backend would be no better
        assert proxy.service.server is not None
        assert proxy.service.server._resume_timer is not None


def no_address(endpoint: Endpoint, timeout: float) -> Socket:
    """A dial for which no source port is left towards port 1 and 2."""
    if endpoint.sockaddr[1] in (1, 2):
        raise DialError(DialFailure.NO_ADDRESS, "no source port is left")
    return dial(endpoint, timeout)


def test_no_source_port_towards_a_backend_goes_on_to_the_next(played: PlayedBackend) -> None:
    with Embedded(GONE, backend(played), dial=no_address) as proxy:
        exchange(proxy.connect(), played.accept())
        assert proxy.service.upstream.backends[0].stats.retries == 1


def test_no_source_port_towards_anybody_is_our_shortage_but_no_reason_to_pause() -> None:
    with Embedded(GONE, backend("127.0.0.1:2"), dial=no_address) as proxy:
        assert proxy.connect().rest() == (b"", End.RESET)
        (record,) = proxy.ended()
        assert (record.code, record.retries) == ("RC", 1)
        assert proxy.service.server is not None
        assert proxy.service.server._resume_timer is None


def test_who_cannot_be_served_and_has_spoken_still_sees_a_fin() -> None:
    with Embedded(GONE, upstream="all_down: close") as proxy:
        client = proxy.connect()
        client.send(b"ask")
        assert client.rest() == (b"", End.FIN)


def test_a_failed_dial_counts_as_connecting_not_as_waiting(played: PlayedBackend) -> None:
    clock = FakeClock()

    def slow(endpoint: Endpoint, timeout: float) -> Socket:
        clock.advance(5.0)
        return dial(endpoint, timeout)

    with Embedded(GONE, backend(played), dial=slow, clock=clock) as proxy:
        client = proxy.connect()
        played.accept().close()
        client.close()
        (record,) = proxy.ended()
        assert (record.tw, record.tc, record.retries) == (0.0, 10.0, 1)


def test_a_defect_before_there_is_a_relay_gives_the_slot_back(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Embedded(backend(played, "max_connections: 1")) as proxy:
        with monkeypatch.context() as patch:
            patch.delattr(proxy.service, "quiescent")
            assert proxy.connect().rest() == (b"", End.RESET)
        assert proxy.codes() == ["IC"]
        played.accept().rest()
        assert proxy.service.upstream.active == 0
        exchange(proxy.connect(), played.accept())


def test_a_defect_at_the_relay_s_start_gives_the_slot_back(played: PlayedBackend) -> None:
    """The client's watcher runs already, and must not outlive the session."""

    def broken(endpoint: Endpoint, timeout: float) -> Socket:
        sock = dial(endpoint, timeout)
        sock.close()
        return sock

    with Embedded(backend(played, "max_connections: 1"), dial=broken) as proxy:
        assert proxy.connect().rest() == (b"", End.RESET)
        assert proxy.codes() == ["IC"]
        proxy.service.upstream.dial = dial
        played.accept().rest()
        assert proxy.service.upstream.active == 0
        exchange(proxy.connect(), played.accept())


def test_a_defect_ends_its_session_only_and_is_seen(played: PlayedBackend, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_endpoint: Endpoint, _timeout: float) -> Socket:
        raise ZeroDivisionError("a defect")

    with Embedded(backend(played), dial=broken) as proxy:
        assert proxy.connect().rest() == (b"", End.RESET)
        assert proxy.codes() == ["IC"]
        assert proxy.service.upstream.active == 0
        (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert line.getMessage().endswith("failed")
        assert line.exc_info
        proxy.service.upstream.dial = dial
        exchange(proxy.connect(), played.accept())


# --- the queue ---------------------------------------------------------------------------


def test_sessions_wait_for_a_slot_in_order(played: PlayedBackend) -> None:
    with Embedded(backend(played, "max_connections: 1")) as proxy:
        clients = [proxy.connect() for _ in range(3)]
        eventually(lambda: len(proxy.service.upstream.queue) == 2)
        for number, client in enumerate(clients):
            server = played.accept()
            exchange(client, server, b"I am %d" % number)
            client.close()
            server.close()
        assert proxy.codes(3) == ["--"] * 3
        assert proxy.service.upstream.active == 0


def test_waiting_too_long(played: PlayedBackend) -> None:
    with Embedded(backend(played, "max_connections: 1"), upstream="queue_timeout: 10ms") as proxy:
        first = proxy.connect()
        server = played.accept()
        assert proxy.connect().rest() == (b"", End.RESET)
        assert proxy.codes() == ["sQ"]
        exchange(first, server)


def test_a_client_that_resets_while_it_waits_takes_no_slot(played: PlayedBackend) -> None:
    with Embedded(backend(played, "max_connections: 1")) as proxy:
        first = proxy.connect()
        server = played.accept()
        impatient = proxy.connect()
        eventually(lambda: len(proxy.service.upstream.queue) == 1)
        last = proxy.connect()
        eventually(lambda: len(proxy.service.upstream.queue) == 2)
        impatient.reset()
        first.close()
        server.close()
        exchange(last, played.accept())
        assert sorted(proxy.codes(2)) == ["--", "CQ"]
        assert proxy.service.upstream.active == 1


def test_a_client_that_resets_and_is_not_served_in_time_has_left(played: PlayedBackend) -> None:
    with Embedded(backend(played, "max_connections: 1"), upstream="queue_timeout: 10ms") as proxy:
        first = proxy.connect()
        server = played.accept()
        proxy.connect().reset()  # before its session begins, so surely within its time
        assert proxy.codes() == ["CQ"]
        exchange(first, server)


def test_a_session_killed_in_the_queue_after_a_failed_dial(played: PlayedBackend) -> None:
    with Embedded(GONE, backend(played, "max_connections: 1"), upstream=NEVER_EJECTED) as proxy:
        proxy.connect()
        played.accept()
        second = proxy.connect()
        eventually(lambda: len(proxy.service.upstream.queue) == 1)
        (waiting,) = [session for session in proxy.sessions if session.waiting]
        waiting.end(Ended.KILLED)
        assert second.rest() == (b"", End.RESET)
        (record,) = proxy.ended()
        assert (record.code, record.retries) == ("KQ", 1)


def test_a_session_killed_in_the_queue(played: PlayedBackend) -> None:
    with Embedded(backend(played, "max_connections: 1")) as proxy:
        first = proxy.connect()
        server = played.accept()
        exchange(first, server)
        second = proxy.connect()
        eventually(lambda: len(proxy.service.upstream.queue) == 1)
        (waiting,) = [session for session in proxy.sessions if session.backend is None]
        waiting.end(Ended.KILLED)
        assert second.rest() == (b"", End.RESET)
        assert proxy.codes() == ["KQ"]
        assert len(proxy.service.upstream.queue) == 0
        exchange(first, server)  # nobody else is hurt


def test_a_session_killed_while_it_dials(played: PlayedBackend) -> None:
    slow = Slow()
    with Embedded(backend(played), dial=slow) as proxy:
        client = proxy.connect()
        eventually(lambda: slow.dialled)
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest() == (b"", End.RESET)
        assert proxy.codes() == ["KC"]
        assert proxy.service.upstream.active == 0

        slow.go_on.set()  # the greenlet that was interrupted serves on
        exchange(proxy.connect(), played.accept())


def test_a_session_killed_twice_is_ended_once(played: PlayedBackend) -> None:
    slow = Slow()
    with Embedded(backend(played), dial=slow) as proxy:
        proxy.connect()
        eventually(lambda: slow.dialled)
        (session,) = proxy.sessions
        session.end(Ended.KILLED)
        session.end(Ended.KILLED)
        assert proxy.codes() == ["KC"]
        passes_turns()
        session.end(Ended.KILLED)
        passes_turns()
        assert proxy.codes() == ["KC"]


def test_an_interrupt_that_comes_too_late_hurts_nobody(played: PlayedBackend) -> None:
    """The session's greenlet has ended its work by then, and serves another client."""
    slow = Slow()
    with Embedded(backend(played), dial=slow) as proxy:
        first = proxy.connect()
        eventually(lambda: slow.dialled)
        (session,) = proxy.sessions
        slow.go_on.set()
        server = played.accept()
        exchange(first, server)
        session._interrupt()
        exchange(first, server)
        second = proxy.connect()
        exchange(second, played.accept())


def test_a_relaying_session_is_ended_under_the_code_given(played: PlayedBackend) -> None:
    with Embedded(backend(played)) as proxy:
        client = proxy.connect()
        server = played.accept()
        exchange(client, server)
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest() == server.rest() == (b"", End.RESET)
        assert proxy.codes() == ["KD"]


def test_sessions_of_a_backend_that_goes_down_are_ended_if_that_is_wanted() -> None:
    with (
        PlayedBackend() as one,
        PlayedBackend() as two,
        Embedded(backend(one), backend(two), upstream="down_action: close_sessions") as proxy,
    ):
        first, second = proxy.connect(), proxy.connect()
        server, other = one.accept(), two.accept()
        exchange(first, server)
        exchange(second, other)
        upstream = proxy.service.upstream
        upstream.backends[0].health.observe(False, 1, 1)
        upstream.flipped(upstream.backends[0], "check failed")
        assert first.rest() == server.rest() == (b"", End.RESET)
        assert proxy.codes() == ["DD"]
        exchange(second, other)


# --- pooling -----------------------------------------------------------------------------


def test_by_default_no_connection_is_shared(played: PlayedBackend) -> None:
    with Embedded(backend(played)) as proxy:
        for _ in range(2):
            client = proxy.connect()
            server = played.accept()
            exchange(client, server)
            client.close()
            assert server.rest() == (b"", End.FIN)
            server.close()
        assert [record.reused for record in proxy.ended(2)] == [False, False]


def test_connections_are_dialled_ahead(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream="pool: {preconnect: 1}") as proxy:
        ahead = played.accept()
        client = proxy.connect()
        exchange(client, ahead)
        played.accept()  # the next one's
        client.close()
        ahead.close()
        (record,) = proxy.ended()
        assert record.reused is False


def test_the_greeting_of_a_connection_dialled_ahead(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream="pool: {preconnect: 1}") as proxy:
        ahead = played.accept()
        ahead.send(b"220 ready\r\n")
        client = proxy.connect()
        assert client.receive(11) == b"220 ready\r\n"
        exchange(client, ahead)


# --- quiescent ---------------------------------------------------------------------------


def pool_of(proxy: Embedded) -> Any:
    return proxy.service.upstream.backends[0].pool


def test_the_next_client_gets_the_same_connection(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        server = None
        for number in range(3):
            client = proxy.connect()
            server = server or played.accept()
            exchange(client, server, b"ask %d" % number, b"answer %d" % number)
            client.finish()
            assert client.rest() == (b"", End.FIN)
            eventually(lambda: pool_of(proxy).idle == 1)
        assert [(record.reused, record.code) for record in proxy.ended(3)] == [
            (False, "--"), (True, "--"), (True, "--"),
        ]  # fmt: skip
        assert not played.waiting()
        assert proxy.dirty == 0
        stats = proxy.service.upstream.backends[0].stats
        assert (stats.connects, stats.reuses) == (1, 2)


def test_a_client_that_asked_nothing_leaves_a_clean_connection(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        client = proxy.connect()
        played.accept()
        client.close()
        eventually(lambda: pool_of(proxy).idle == 1)
        assert proxy.dirty == 0


def test_a_question_without_answer(played: PlayedBackend) -> None:
    """Its answer would reach the next client."""
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        first = proxy.connect()
        server = played.accept()
        exchange(first, server)
        first.send(b"again")
        first.close()
        assert server.rest() == (b"again", End.FIN)
        assert proxy.dirty == 1
        server.send(b"late answer")
        server.close()
        proxy.ended()
        assert pool_of(proxy).idle == 0
        second = proxy.connect()
        exchange(second, played.accept())


def test_an_answer_that_the_client_has_not_taken(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        client = proxy.connect()
        server = played.accept()
        exchange(client, server)
        sending = gevent.spawn(server.send, bytes(64 << 20))
        eventually(lambda: proxy.sessions[0]._relay.down.held)  # type: ignore[union-attr]
        client.finish()
        eventually(lambda: proxy.dirty == 1)
        assert server.rest() == (b"", End.FIN)
        data = gevent.spawn(client.rest)
        sending.get()
        server.close()
        assert data.get() == (bytes(64 << 20), End.FIN)
        assert proxy.codes() == ["--"]
        assert pool_of(proxy).idle == 0


def test_bytes_that_the_backend_has_not_taken(played: PlayedBackend) -> None:
    """It answered, and reads no more: what stands in its socket or ours is the first client's."""
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        client = proxy.connect()
        server = played.accept()
        sending = gevent.spawn(client.send, bytes(1 << 20))
        sending.rawlink(lambda _: client.finish())
        server.receive(1000)
        server.send(b"enough")
        assert client.receive(6) == b"enough"
        relay = proxy.sessions[0]._relay
        assert relay is not None
        assert server.receive(1 << 30) == bytes((1 << 20) - 1000)
        assert proxy.dirty == 1
        server.close()
        proxy.ended()
        assert pool_of(proxy).idle == 0


def awaiting_silence(proxy: Embedded, played: PlayedBackend) -> tuple[Peer, Peer]:
    """A session that has had its answer and its client's FIN; whether it is quiescent is still open."""
    client = proxy.connect()
    server = played.accept()
    exchange(client, server)
    client.finish()
    eventually(lambda: proxy.sessions[0]._quiet_timer)
    return client, server


def test_the_silence_begins_anew_after_each_word(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream="pool: {reuse: quiescent, quiescent_for: 1h}") as proxy:
        client, server = awaiting_silence(proxy, played)
        (session,) = proxy.sessions
        relay = session._relay
        assert relay is not None
        before = relay.down.received
        server.send(b" and more")
        assert client.receive(9) == b" and more"

        session._quiet_timer.stop()
        session._quiet(relay, before)  # the first silence's end
        assert pool_of(proxy).idle == 0
        session._quiet_timer.stop()
        session._quiet(relay, relay.down.received)  # the second one's
        assert pool_of(proxy).idle == 1


def test_a_word_that_the_hub_has_not_seen_when_the_silence_ends(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream="pool: {reuse: quiescent, quiescent_for: 1h}") as proxy:
        client, server = awaiting_silence(proxy, played)
        (session,) = proxy.sessions
        relay = session._relay
        assert relay is not None
        session._quiet_timer.stop()
        server.send(b" too late")
        session._quiet(relay, relay.down.received)
        assert proxy.dirty == 1
        assert client.receive(9) == b" too late"
        server.close()
        assert proxy.codes() == ["--"]
        assert pool_of(proxy).idle == 0


def test_a_backend_s_fin_within_the_silence(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream="pool: {reuse: quiescent, quiescent_for: 1h}") as proxy:
        client, server = awaiting_silence(proxy, played)
        server.close()
        assert proxy.codes() == ["--"]
        assert client.rest() == (b"", End.FIN)
        assert pool_of(proxy).idle == 0


def test_a_backend_s_fin_before_the_client_s(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        client = proxy.connect()
        server = played.accept()
        exchange(client, server)
        server.finish()
        assert client.rest() == (b"", End.FIN)
        client.close()
        assert server.rest() == (b"", End.FIN)
        assert proxy.codes() == ["--"]
        assert pool_of(proxy).idle == 0


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_reset_leaves_nothing_to_share(played: PlayedBackend, who: str) -> None:
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        client = proxy.connect()
        server = played.accept()
        exchange(client, server)
        (client if who == "client" else server).reset()
        assert (server if who == "client" else client).rest() == (b"", End.RESET)
        assert proxy.codes() == ["CD" if who == "client" else "SD"]
        assert pool_of(proxy).idle == 0


def test_bytes_after_the_return_reach_nobody(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        first = proxy.connect()
        server = played.accept()
        exchange(first, server)
        first.close()
        eventually(lambda: pool_of(proxy).idle == 1)
        server.send(b"the first one's")
        second = proxy.connect()
        other = played.accept()
        exchange(second, other, b"who", b"you")
        assert proxy.dirty == 1
        other.close()
        assert second.rest() == (b"", End.FIN)


def test_a_session_that_is_killed_within_the_silence(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream="pool: {reuse: quiescent, quiescent_for: 1h}") as proxy:
        client, server = awaiting_silence(proxy, played)
        proxy.sessions[0].end(Ended.KILLED)
        assert client.rest() == server.rest() == (b"", End.RESET)
        assert proxy.codes() == ["KD"]
        assert pool_of(proxy).idle == 0


def test_two_clients_at_once_never_share(played: PlayedBackend) -> None:
    with Embedded(backend(played), upstream=QUIESCENT) as proxy:
        first, one = proxy.connect(), played.accept()
        second, two = proxy.connect(), played.accept()
        exchange(first, one, b"1", b"one")
        exchange(second, two, b"2", b"two")
        first.close()
        eventually(lambda: pool_of(proxy).idle == 1)
        third = proxy.connect()
        exchange(third, one, b"3", b"three")
        exchange(second, two, b"2", b"two")


def test_a_slot_goes_to_who_waits_with_its_connection(played: PlayedBackend) -> None:
    with Embedded(backend(played, "max_connections: 1"), upstream=QUIESCENT) as proxy:
        first = proxy.connect()
        server = played.accept()
        exchange(first, server)
        second = proxy.connect()
        eventually(lambda: len(proxy.service.upstream.queue) == 1)
        first.close()
        exchange(second, server, b"2", b"two")
        assert not played.waiting()


# --- what is left ------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", ["", QUIESCENT], ids=["never", "quiescent"])
@pytest.mark.parametrize("how", ["fin", "client resets", "backend resets", "refused", "killed"])
def test_nothing_is_left_for_the_garbage_collector(upstream: str, how: str) -> None:
    with PlayedBackend() as played, Embedded(backend(played), upstream=upstream) as proxy:
        if how == "refused":
            played.stop()

        def session() -> None:
            client = proxy.connect()
            if how == "refused":
                client.rest()
                return
            server = played.accept()
            exchange(client, server)
            if how == "killed":
                proxy.sessions[0].end(Ended.KILLED)
            elif how == "client resets":
                client.reset()
            elif how == "backend resets":
                server.reset()
            client.close()
            server.close()

        session()
        proxy.ended()
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                session()
            proxy.ended(4)
            eventually(lambda: not proxy.sessions)
            assert garbage() == []
        finally:
            gc.enable()


def garbage() -> list[str]:
    """The kinds of our objects that only the garbage collector can end."""
    flags = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = [type(thing).__qualname__ for thing in gc.garbage if type(thing).__module__.startswith("gproxy")]
    finally:
        gc.garbage.clear()
        gc.set_debug(flags)
    return kinds


def test_no_descriptor_is_left() -> None:
    before = descriptors()
    with PlayedBackend() as played, Embedded(backend(played), upstream=QUIESCENT) as proxy:
        for _ in range(5):
            client, server = proxy.connect(), played.accept()
            exchange(client, server)
            client.reset()
        proxy.ended(5)
        client, server = proxy.connect(), played.accept()
        exchange(client, server)
    eventually(lambda: descriptors() == before, TIMEOUT)
