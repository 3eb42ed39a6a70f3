"""Dialling, against loopback: a connected socket, or an error that says why not."""

from __future__ import annotations

import errno
import resource
import socket
from _socket import socket as Socket
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from gproxy.errors import DialError, DialFailure
from gproxy.net import dial as module
from gproxy.net.connection import Endpoint, new_socket
from gproxy.net.dial import dial, dial_any
from tests.support.loopback import TIMEOUT, PlayedBackend, descriptors
from tests.support.poll import eventually


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def backend() -> Iterator[PlayedBackend]:
    with PlayedBackend() as backend:
        yield backend


def failure(act: Callable[[], Socket]) -> DialFailure:
    with pytest.raises(DialError) as caught:
        act()
    return caught.value.failure


def unused_port() -> int:
    """One that nobody listens on; it may be a client's, but never the kernel's choice for a listener again soon."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def nobody() -> Endpoint:
    return Endpoint(socket.AF_INET, ("127.0.0.1", unused_port()))


def full_backlog(endpoint: Endpoint) -> list[Socket]:
    """Clients that fill the backlog, so that the next one's handshake is not answered."""
    clients = []
    while True:
        clients.append(new_socket(endpoint.family))
        code = clients[-1].connect_ex(endpoint.sockaddr)
        if code == errno.EINPROGRESS:
            code = clients[-1].connect_ex(endpoint.sockaddr)
        if code:
            assert code in (errno.EALREADY, errno.EAGAIN)
            return clients


def test_a_connected_socket(backend: PlayedBackend) -> None:
    sock = dial(backend.endpoint, TIMEOUT)
    peer = backend.accept()
    assert not sock.getblocking()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    sock.send(b"hello")
    assert peer.receive(5) == b"hello"
    sock.close()


def test_a_unix_socket(tmp_path: Path) -> None:
    with PlayedBackend(tmp_path / "app.sock") as backend:
        sock = dial(backend.endpoint, TIMEOUT)
        sock.send(b"hello")
        assert backend.accept().receive(5) == b"hello"
        sock.close()


def test_refused() -> None:
    endpoint = nobody()
    with pytest.raises(DialError, match=rf"{endpoint}: Connection refused") as caught:
        dial(endpoint, TIMEOUT)
    assert caught.value.failure is DialFailure.REFUSED
    assert caught.value.retryable


def test_an_address_that_connect_cannot_read() -> None:
    endpoint = Endpoint(socket.AF_INET6, ("fe80::1%nosuch", 80, 0, 0))
    assert failure(lambda: dial(endpoint, TIMEOUT)) is DialFailure.UNREACHABLE


def test_a_full_backlog_is_a_timeout() -> None:
    with PlayedBackend(backlog=0) as backend:
        clients = full_backlog(backend.endpoint)
        assert failure(lambda: dial(backend.endpoint, 0.05)) is DialFailure.TIMEOUT
        for client in clients:
            client.close()


def test_a_handshake_that_takes_a_while() -> None:
    """The kernel repeats the SYN after a second, by when the backlog has room."""
    with PlayedBackend(backlog=0) as backend:
        clients = full_backlog(backend.endpoint)
        dialling = gevent.spawn(dial, backend.endpoint, TIMEOUT)
        gevent.sleep(0)
        assert not dialling.ready()
        for client in clients:
            client.close()
        while backend.waiting():
            pass
        dialling.get().close()


def test_a_dial_that_is_killed_leaves_nothing() -> None:
    with PlayedBackend(backlog=0) as backend:
        clients = full_backlog(backend.endpoint)
        dialling = gevent.spawn(dial, backend.endpoint, TIMEOUT)
        gevent.sleep(0)
        dialling.kill()
        for client in clients:
            client.close()


def test_a_unix_socket_that_is_missing(tmp_path: Path) -> None:
    endpoint = Endpoint(socket.AF_UNIX, str(tmp_path / "app.sock"))
    assert failure(lambda: dial(endpoint, TIMEOUT)) is DialFailure.REFUSED


def test_a_unix_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    backend = PlayedBackend(tmp_path / "app.sock")
    endpoint = backend.endpoint
    backend.close()
    assert failure(lambda: dial(endpoint, TIMEOUT)) is DialFailure.REFUSED


def test_a_unix_socket_with_a_full_backlog_is_a_timeout(tmp_path: Path) -> None:
    with PlayedBackend(tmp_path / "app.sock", backlog=0) as backend:
        clients = full_backlog(backend.endpoint)
        assert failure(lambda: dial(backend.endpoint, 0.05)) is DialFailure.TIMEOUT
        for client in clients:
            client.close()


def test_a_unix_backlog_that_gets_room_in_time(tmp_path: Path) -> None:
    with PlayedBackend(tmp_path / "app.sock", backlog=0) as backend:
        clients = full_backlog(backend.endpoint)
        dialling = gevent.spawn(dial, backend.endpoint, TIMEOUT)
        gevent.sleep(0)
        backend.accept()
        dialling.get().close()
        for client in clients:
            client.close()


def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert failure(lambda: dial(Endpoint(socket.AF_UNIX, str(tmp_path / "file")), TIMEOUT)) is DialFailure.REFUSED


def test_a_path_that_may_not_be_reached() -> None:
    endpoint = Endpoint(socket.AF_UNIX, "/dev/null/app.sock")
    assert failure(lambda: dial(endpoint, TIMEOUT)) is DialFailure.UNREACHABLE


def test_no_descriptor_left_is_our_own_shortage(backend: PlayedBackend) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # numbers from 3 on are refused from now on
    try:
        failed = failure(lambda: dial(backend.endpoint, TIMEOUT))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed is DialFailure.RESOURCES


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EADDRNOTAVAIL, DialFailure.NO_ADDRESS),  # no source port is left
        (errno.ENETUNREACH, DialFailure.UNREACHABLE),
        (errno.EHOSTUNREACH, DialFailure.UNREACHABLE),
        (errno.EACCES, DialFailure.UNREACHABLE),
        (errno.ETIMEDOUT, DialFailure.TIMEOUT),
        (errno.ECONNRESET, DialFailure.REFUSED),
    ],
)
def test_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch, code: int, expected: DialFailure) -> None:
    class Failing(Socket):
        def connect_ex(self, _address: object) -> int:
            return code

    monkeypatch.setattr(module, "new_socket", lambda family: Failing(family, socket.SOCK_STREAM))
    assert failure(lambda: dial(nobody(), TIMEOUT)) is expected


def test_a_socket_joined_to_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may choose the dialled port as the source; TCP then connects the socket to itself."""

    def bound(family: int) -> Socket:
        sock = new_socket(family)
        sock.bind(("127.0.0.1", port))
        return sock

    port = unused_port()
    monkeypatch.setattr(module, "new_socket", bound)
    endpoint = Endpoint(socket.AF_INET, ("127.0.0.1", port))
    assert failure(lambda: dial(endpoint, TIMEOUT)) is DialFailure.REFUSED


# --- several endpoints -------------------------------------------------------------------


def test_the_first_endpoint_that_answers(backend: PlayedBackend) -> None:
    dial_any((nobody(), backend.endpoint, nobody()), TIMEOUT).close()
    assert eventually(backend.waiting)


def test_the_last_error_when_none_answers() -> None:
    first, last = nobody(), nobody()
    with pytest.raises(DialError, match=str(last)):
        dial_any((first, last), TIMEOUT)


def test_no_endpoint_at_all() -> None:
    assert failure(lambda: dial_any((), TIMEOUT)) is DialFailure.UNRESOLVED


def test_no_source_port_towards_one_endpoint_goes_on_to_the_next() -> None:
    first, last = nobody(), nobody()
    dialled = []

    def no_address(endpoint: Endpoint, _timeout: float) -> Socket:
        dialled.append(endpoint)
        raise DialError(DialFailure.NO_ADDRESS, "no source port is left")

    assert failure(lambda: dial_any((first, last), TIMEOUT, no_address)) is DialFailure.NO_ADDRESS
    assert dialled == [first, last]


def test_our_own_shortage_is_not_tried_out_on_every_endpoint() -> None:
    dialled = []

    def short(endpoint: Endpoint, _timeout: float) -> Socket:
        dialled.append(endpoint)
        raise DialError(DialFailure.RESOURCES, "no descriptor")

    assert failure(lambda: dial_any((nobody(), nobody()), TIMEOUT, short)) is DialFailure.RESOURCES
    assert len(dialled) == 1
