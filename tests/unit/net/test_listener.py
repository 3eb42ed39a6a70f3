"""ProxyServer on loopback: accepting, pausing, resuming, and the greenlets that serve."""

from __future__ import annotations

import errno
import logging
import os
import socket
from _socket import socket as Socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import GreenletExit
from gevent.event import Event

from gproxy.errors import BindError
from gproxy.net.connection import Endpoint
from gproxy.net.limit import Limit
from gproxy.net.listener import ProxyServer, listen
from gproxy.net.refusals import Refusals
from tests.support.loopback import TIMEOUT, End, Peer, descriptors
from tests.support.poll import eventually, let_the_hub_run

LOOPBACK = Endpoint(socket.AF_INET, ("127.0.0.1", 0))

Serve = Callable[[Socket, Any], None]


class Scarce:
    """A listening socket whose accept() fails as often as it is told to."""

    def __init__(self, sock: Socket):
        self._real = sock
        self.failures: list[int] = []
        self.accepts = 0

    def _accept(self) -> tuple[int, Any]:
        self.accepts += 1
        if self.failures:
            code = self.failures.pop(0)
            raise OSError(code, os.strerror(code))
        return self._real._accept()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Bench:
    """A started server, whose handler keeps the clients in `served` unless it gets another one."""

    def __init__(
        self,
        serve: Serve | None = None,
        max_connections: int = 100,
        endpoint: Endpoint = LOOPBACK,
        shared: tuple[Limit, ...] = (),
        refusals: Refusals | None = None,
    ):
        self.sock = listen(endpoint, 64)
        self.listening = Scarce(self.sock)
        self.served: list[Socket] = []
        self._clients: list[Peer] = []
        limits = (Limit(max_connections), *shared)
        self.server = ProxyServer(self.listening, serve or self._keep, limits, refusals)  # type: ignore[arg-type]
        self.server.start()

    def _keep(self, sock: Socket, _peer: Any) -> None:
        self.served.append(sock)

    def connect(self) -> Peer:
        sock = gevent.socket.socket(self.sock.family)
        self._clients.append(Peer(sock))
        sock.connect(self.server.address)
        return self._clients[-1]

    def end_one(self) -> None:
        """The oldest session is over."""
        self.served.pop(0).close()
        self.server.session_over()

    def close(self) -> None:
        self.server.close()
        for sock in (*self._clients, *self.served, self.sock):
            sock.close()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    before = descriptors()
    made: list[Bench] = []

    def make(*arguments: Any, **named: Any) -> Bench:
        made.append(Bench(*arguments, **named))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert descriptors() == before


Make = Callable[..., Bench]


# --- listening -----------------------------------------------------------------------------


def test_it_tells_where_it_listens(bench: Make) -> None:
    b = bench()
    port = b.sock.getsockname()[1]
    assert b.server.url == f"127.0.0.1:{port}"
    assert b.server.address == ("127.0.0.1", port)


def test_it_listens_on_ipv6(bench: Make) -> None:
    b = bench(endpoint=Endpoint(socket.AF_INET6, ("::1", 0, 0, 0)))
    assert b.server.url.startswith("[::1]:")
    b.connect()
    eventually(lambda: b.served)


def test_a_client_s_socket_is_ready_for_the_relay(bench: Make) -> None:
    b = bench()
    client = b.connect()
    eventually(lambda: b.served)
    (served,) = b.served
    assert not served.getblocking()
    assert not os.get_inheritable(served.fileno())
    assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert served.getpeername() == client.sock.getsockname()


def test_a_port_in_use() -> None:
    taken = listen(LOOPBACK, 1)
    endpoint = Endpoint(socket.AF_INET, taken.getsockname())
    with pytest.raises(BindError, match=rf"cannot listen on {endpoint}: address already in use"):
        listen(endpoint, 1)
    taken.close()


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1:0: cannot assign requested address"):
        listen(Endpoint(socket.AF_INET, ("192.0.2.1", 0)), 1)


def test_a_port_whose_last_clients_linger_can_be_had_again(bench: Make) -> None:
    b = bench()
    client = b.connect()
    eventually(lambda: b.served)
    b.served[0].close()  # we close first, so our side keeps the port in TIME_WAIT
    client.rest()
    client.close()
    address = b.server.address
    b.server.close()
    b.sock.close()
    listen(Endpoint(socket.AF_INET, address), 1).close()


# --- unix sockets ------------------------------------------------------------------------


def at(path: Path) -> Endpoint:
    return Endpoint(socket.AF_UNIX, str(path))


def test_a_unix_socket(bench: Make, tmp_path: Path) -> None:
    b = bench(endpoint=at(tmp_path / "web.sock"))
    assert b.server.url == f"unix:{tmp_path}/web.sock"
    b.connect()
    eventually(lambda: b.served)


def test_a_unix_socket_goes_with_its_listener(bench: Make, tmp_path: Path) -> None:
    b = bench(endpoint=at(tmp_path / "web.sock"))
    b.server.close()
    assert not (tmp_path / "web.sock").exists()


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    listen(at(tmp_path / "web.sock"), 1).close()  # as after a crash: the file stays
    assert (tmp_path / "web.sock").exists()
    listen(at(tmp_path / "web.sock"), 1).close()


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    living = listen(at(tmp_path / "web.sock"), 1)
    with pytest.raises(BindError, match="address already in use"):
        listen(at(tmp_path / "web.sock"), 1)
    assert (tmp_path / "web.sock").exists()
    living.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "web.sock").write_text("precious")
    with pytest.raises(BindError, match="address already in use"):
        listen(at(tmp_path / "web.sock"), 1)
    assert (tmp_path / "web.sock").read_text() == "precious"


# --- greenlets -------------------------------------------------------------------------------


class Attendants:
    """A handler that notes which greenlet served, and waits until it is let go if `hold` is cleared."""

    def __init__(self) -> None:
        self.greenlets: list[Any] = []
        self.done = 0
        self.hold = Event()
        self.hold.set()

    def __call__(self, sock: Socket, _peer: Any) -> None:
        self.greenlets.append(gevent.getcurrent())
        try:
            self.hold.wait()
            sock.close()
        except GreenletExit:
            sock.close()
        finally:
            self.done += 1


def test_a_greenlet_serves_one_client_after_the_other(bench: Make) -> None:
    serve = Attendants()
    b = bench(serve)
    for count in range(1, 6):
        assert b.connect().rest() == (b"", End.FIN)
        assert serve.done == count
    assert len(set(serve.greenlets)) == 1


def test_clients_at_once_have_a_greenlet_each(bench: Make) -> None:
    serve = Attendants()
    serve.hold.clear()
    b = bench(serve)
    for _ in range(5):
        b.connect()
    eventually(lambda: len(serve.greenlets) == 5)
    assert len(set(serve.greenlets)) == 5
    serve.hold.set()
    eventually(lambda: serve.done == 5)


def test_only_some_greenlets_rest(bench: Make) -> None:
    serve = Attendants()
    serve.hold.clear()
    b = bench(serve, max_connections=200)
    for _ in range(200):
        b.connect()
    eventually(lambda: len(serve.greenlets) == 200)
    serve.hold.set()
    eventually(lambda: serve.done == 200)
    eventually(lambda: sum(not greenlet.dead for greenlet in serve.greenlets) == 128)


def test_an_interrupted_session_does_not_hurt_the_next_client(bench: Make) -> None:
    serve = Attendants()
    serve.hold.clear()
    b = bench(serve)
    first = b.connect()
    eventually(lambda: serve.greenlets)
    gevent.get_hub().loop.run_callback(serve.greenlets[0].throw, GreenletExit)
    assert first.rest() == (b"", End.FIN)

    second = b.connect()
    eventually(lambda: len(serve.greenlets) == 2)
    assert serve.greenlets[0] is serve.greenlets[1]
    for _ in range(5):
        gevent.sleep(0)
    assert serve.done == 1  # the wait of the first woke nobody
    serve.hold.set()
    assert second.rest() == (b"", End.FIN)


# --- a limit of sessions ------------------------------------------------------------------


def test_at_its_limit_it_accepts_nobody_until_a_session_ends(bench: Make) -> None:
    b = bench(max_connections=2)
    clients = [b.connect() for _ in range(4)]
    eventually(lambda: len(b.served) == 2)
    for _ in range(5):
        gevent.sleep(0)
    assert b.server.active == len(b.served) == 2
    assert b.server.full()

    addresses = [client.sock.getsockname() for client in clients]
    b.end_one()
    eventually(lambda: len(b.served) == 2)
    assert [sock.getpeername() for sock in b.served] == addresses[1:3]
    b.end_one()
    b.end_one()
    eventually(lambda: len(b.served) == 1 and b.served[0].getpeername() == addresses[3])
    assert b.server.active == 1


def test_after_its_close_a_session_s_end_starts_nothing(bench: Make) -> None:
    b = bench(max_connections=1)
    b.connect()
    eventually(lambda: b.served)
    b.server.close()
    b.end_one()
    assert b.server.active == 0
    assert b.server.closed


class Refused:
    """Those who were turned away."""

    def __init__(self) -> None:
        self.peers: list[Any] = []
        self.between: list[int] = []  # how many there were when somebody else ran
        self.closed = False

    def refuse(self, sock: Socket, peer: Any) -> None:
        if not self.peers:
            gevent.get_hub().loop.run_callback(lambda: self.between.append(len(self.peers)))
        self.peers.append(peer)
        sock.close()

    def close(self) -> None:
        self.closed = True


def test_sessions_of_other_processes_count_and_their_end_is_noticed(bench: Make) -> None:
    others = [2]
    shared = Limit(3, elsewhere=lambda _slot: others[0])
    b = bench(shared=(shared,))
    b.connect()
    b.connect()
    eventually(lambda: b.served)
    let_the_hub_run()
    assert len(b.served) == 1
    others[0] = 1
    eventually(lambda: len(b.served) == 2)


def test_a_session_s_end_here_is_room_at_once_whatever_others_have(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gproxy.net.listener._LOOK_AGAIN", 3600.0)
    b = bench(shared=(Limit(3, elsewhere=lambda _slot: 2),))
    for _ in range(2):
        b.connect()
    eventually(lambda: b.served)
    let_the_hub_run()
    first = b.served[0].getpeername()
    b.end_one()
    eventually(lambda: b.served)
    assert b.served[0].getpeername() != first


def test_others_who_fill_it_while_it_pauses_are_noticed_too(bench: Make) -> None:
    """No session of ours is there to wake it when the pause is over."""
    others = [0]
    b = bench(shared=(Limit(3, elsewhere=lambda _slot: others[0]),))
    b.server.pause("short")
    others[0] = 3
    b.connect()
    eventually(lambda: b.server._resume_timer is None, what="the pause is over")
    let_the_hub_run()
    assert b.served == []
    others[0] = 2
    eventually(lambda: b.served)


def test_a_limit_that_two_share(bench: Make) -> None:
    shared = Limit(2)
    one, two = bench(shared=(shared,)), bench(shared=(shared,))
    one.connect()
    two.connect()
    eventually(lambda: one.served and two.served)
    assert (shared.active, one.server.active, two.server.active) == (2, 1, 1)
    assert one.server.full()
    two.end_one()
    assert not one.server.full()
    assert (shared.active, two.server.active) == (1, 0)


def test_it_turns_clients_away_while_it_is_full(bench: Make) -> None:
    refused = Refused()
    b = bench(max_connections=1, refusals=refused)
    b.connect()
    eventually(lambda: b.served)
    assert b.connect().rest() == (b"", End.FIN)
    assert (len(refused.peers), b.server.active) == (1, 1)
    b.end_one()
    b.connect()
    eventually(lambda: b.served)
    assert len(refused.peers) == 1


def test_it_turns_nobody_away_when_there_is_room_again(bench: Make) -> None:
    refused = Refused()
    b = bench(max_connections=2, refusals=refused)
    for _ in range(3):
        b.connect()
    eventually(lambda: refused.peers)
    b.end_one()
    b.end_one()
    b.connect()
    eventually(lambda: b.served)
    assert len(refused.peers) == 1


def test_without_descriptors_for_it_nobody_is_turned_away(bench: Make) -> None:
    refused = Refused()
    b = bench(max_connections=1, shared=(Limit(100, room=1),), refusals=refused)
    b.connect()
    b.connect()
    eventually(lambda: b.served)
    let_the_hub_run()
    assert refused.peers == []
    b.end_one()
    eventually(lambda: b.served)


def test_turning_many_away_lets_others_run_in_between(bench: Make) -> None:
    refused = Refused()
    b = bench(max_connections=1, refusals=refused)
    b.connect()
    eventually(lambda: b.served)
    crowd = [socket.create_connection(b.server.address) for _ in range(40)]  # the hub does not run meanwhile
    eventually(lambda: len(refused.peers) == 40)
    assert 0 < refused.between[0] < 20
    for sock in crowd:
        sock.close()


def test_its_close_ends_those_who_are_being_turned_away(bench: Make) -> None:
    refused = Refused()
    b = bench(refusals=refused)
    b.server.close()
    assert refused.closed


def test_that_it_is_full_is_said_once(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    b = bench(max_connections=1)
    for _ in range(3):
        b.connect()
        b.connect()
        eventually(lambda: b.served)
        let_the_hub_run()
        b.end_one()
        eventually(lambda: b.served)
        b.end_one()
    assert lines(caplog) == [
        f"listener {b.server.url}: full, clients are left waiting: 1 of 1 sessions, of which this process has 1"
    ]


def test_closing_while_it_waits_for_others(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gproxy.net.listener._LOOK_AGAIN", 3600.0)
    b = bench(shared=(Limit(1, elsewhere=lambda _slot: 1),))
    b.connect()
    eventually(lambda: b.server._look_timer is not None)
    b.server.close()
    assert b.server._look_timer is None


# --- shortages -----------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gproxy.listener"]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_it_pauses_and_goes_on(bench: Make, code: int, caplog: pytest.LogCaptureFixture) -> None:
    b = bench()
    b.listening.failures = [code]
    b.connect()
    eventually(lambda: b.served, TIMEOUT, "the client is served after the pause")
    assert lines(caplog) == [f"listener {b.server.url}: accepting pauses: [Errno {code}] {os.strerror(code)}"]


def test_a_long_shortage_is_one_line_and_ever_longer_pauses(
    bench: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []
    b = bench()
    timer = b.server.loop.timer

    def hasty(seconds: float, *arguments: Any, **named: Any) -> Any:
        pauses.append(seconds)
        return timer(0.0, *arguments, **named)

    class Loop:
        def __getattr__(self, name: str) -> Any:
            return hasty if name == "timer" else getattr(gevent.get_hub().loop, name)

    monkeypatch.setattr(b.server, "loop", Loop())
    b.listening.failures = [errno.EMFILE] * 7
    b.connect()
    eventually(lambda: b.served)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert len(lines(caplog)) == 1


def test_the_end_of_a_shortage_is_said_once(
    bench: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("gproxy.net.listener._CALM", 0.0)
    b = bench()
    b.listening.failures = [errno.EMFILE]
    for _ in range(3):
        b.connect()
        eventually(lambda: b.served)
        b.end_one()
    pauses, goes_on = lines(caplog)
    assert "accepting pauses" in pauses
    assert goes_on == f"listener {b.server.url}: accepting goes on"


def test_a_session_that_ends_does_not_cut_a_pause_short(bench: Make) -> None:
    b = bench()
    b.connect()
    eventually(lambda: b.served)
    b.server._pause = 60.0
    b.server.pause("somebody else found none")
    accepts = b.listening.accepts
    b.end_one()
    b.connect()
    for _ in range(5):
        gevent.sleep(0)
    assert b.listening.accepts == accepts


def test_after_a_pause_at_its_limit_it_waits_for_a_session_to_end(bench: Make) -> None:
    b = bench(max_connections=1)
    b.connect()
    eventually(lambda: b.served)
    b.server.pause("short")
    b.connect()
    eventually(lambda: b.server._resume_timer is None, what="the pause is over")
    assert len(b.served) == 1
    b.end_one()
    eventually(lambda: b.served)


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
def test_an_error_of_one_client_s_concerns_nobody_else(
    bench: Make, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    b = bench()
    b.listening.failures = [code]
    b.connect()
    eventually(lambda: b.served)
    assert lines(caplog) == []


def test_closing_during_a_pause(bench: Make) -> None:
    b = bench()
    b.server.pause("short")
    b.server.close()
    assert b.server.closed
    b.server.pause("a session that was about to dial")
    assert b.server._resume_timer is None
