"""Addresses to endpoints."""

from __future__ import annotations

import socket
from _socket import gaierror
from typing import Any

import gevent
import pytest

from gproxy.core.address import Address
from gproxy.net import resolve as module
from gproxy.net.connection import Endpoint
from gproxy.net.resolve import ResolveError, literal, resolve

NAME = Address("backend.test", 80)


@pytest.mark.parametrize(
    ("address", "endpoint", "text"),
    [
        (Address("127.0.0.1", 80), Endpoint(socket.AF_INET, ("127.0.0.1", 80)), "127.0.0.1:80"),
        (Address("::1", 80), Endpoint(socket.AF_INET6, ("::1", 80, 0, 0)), "[::1]:80"),
        (Address(path="/run/app.sock"), Endpoint(socket.AF_UNIX, "/run/app.sock"), "unix:/run/app.sock"),
    ],
)
def test_what_needs_no_look_up(address: Address, endpoint: Endpoint, text: str) -> None:
    assert literal(address) == resolve(address) == (endpoint,)
    assert str(endpoint) == text


def test_a_name_has_no_endpoint_of_its_own() -> None:
    assert literal(NAME) == ()


def test_a_numeric_address_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "getaddrinfo", None)
    assert resolve(Address("127.0.0.1", 1))


def test_a_name_is_looked_up_in_the_resolver_s_order_and_each_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, family: int, kind: int) -> list[Any]:
        assert (host, port, family, kind) == ("backend.test", 80, 0, socket.SOCK_STREAM)
        return [
            (socket.AF_INET6, kind, 6, "", ("::1", 80, 0, 0)),
            (socket.AF_INET, kind, 6, "", ("127.0.0.2", 80)),
            (socket.AF_INET, kind, 6, "", ("127.0.0.1", 80)),
            (socket.AF_INET, kind, 6, "", ("127.0.0.2", 80)),
        ]

    monkeypatch.setattr(module, "getaddrinfo", getaddrinfo)
    assert [str(endpoint) for endpoint in resolve(NAME)] == ["[::1]:80", "127.0.0.2:80", "127.0.0.1:80"]


def test_localhost_is_found() -> None:
    assert Endpoint(socket.AF_INET, ("127.0.0.1", 80)) in resolve(Address("localhost", 80))


@pytest.mark.parametrize("error", [gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_no_address_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def getaddrinfo(*_arguments: Any) -> list[Any]:
        raise error

    monkeypatch.setattr(module, "getaddrinfo", getaddrinfo)
    with pytest.raises(ResolveError, match=r"backend\.test: (Name or service not known|label too long)"):
        resolve(NAME)


def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "getaddrinfo", lambda *_arguments: gevent.event.Event().wait())
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 0.01)
    with pytest.raises(ResolveError, match=r"backend\.test: no answer within 0\.01 s"):
        resolve(NAME)


def test_an_endpoint_at_another_port() -> None:
    assert str(Endpoint(socket.AF_INET, ("127.0.0.1", 80)).with_port(81)) == "127.0.0.1:81"
    assert str(Endpoint(socket.AF_INET6, ("::1", 80, 0, 0)).with_port(81)) == "[::1]:81"
    assert str(Endpoint(socket.AF_UNIX, "/run/app.sock").with_port(81)) == "unix:/run/app.sock"
