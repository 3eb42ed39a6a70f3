"""Addresses as people write them."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.address import MAX_UNIX_PATH, Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9100", Address("127.0.0.1", 9100)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("app.example.com:80", Address("app.example.com", 80)),
        ("app.example.com.:80", Address("app.example.com.", 80)),
        ("my_app:80", Address("my_app", 80)),
        ("localhost:80", Address("localhost", 80)),
        ("unix:/run/app.sock", Address(path="/run/app.sock")),
        ("unix:/" + "x" * (MAX_UNIX_PATH - 1), Address(path="/" + "x" * (MAX_UNIX_PATH - 1))),
    ],
)
def test_reads_and_writes(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "needs a port, such as 127.0.0.1:9100"),
        ("localhost", "needs a port, such as localhost:9100"),
        (":80", "needs a host before the port"),
        ("a:", "has '' for a port"),
        ("a:b", "has 'b' for a port"),
        ("a:-1", "has '-1' for a port"),
        ("a:65536", "has '65536' for a port; a port is a number from 0 to 65535"),
        ("a:000080", "has '000080' for a port"),
        ("a:８0", "for a port"),
        ("::1:80", "an IPv6 address stands in brackets, such as [::1]:9100"),
        ("[::1:80", "an IPv6 address stands in brackets"),
        ("[::g]:80", "has '[::g]' for an IPv6 address"),
        ("[127.0.0.1]:80", "has '[127.0.0.1]' for an IPv6 address"),
        ("[]:80", "has '[]' for an IPv6 address"),
        ("127.0.0.256:80", "has '127.0.0.256' for an IPv4 address"),
        ("127.1:80", "has '127.1' for an IPv4 address"),
        ("a b:80", "has 'a b' for a host name"),
        ("-a:80", "has '-a' for a host name"),
        ("a" * 254 + ":80", "for a host name"),
        ("http://a:80", "an IPv6 address stands in brackets"),
        ("unix:", "a unix socket needs an absolute path"),
        ("unix:app.sock", "a unix socket needs an absolute path, such as unix:/run/app.sock"),
        ("unix:/" + "x" * MAX_UNIX_PATH, "the path is longer than 107 bytes"),
        ("unix:/" + "ü" * 54, "the path is longer than 107 bytes"),
    ],
)
def test_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "unix", "numeric"),
    [
        ("127.0.0.1:80", False, True),
        ("[::1]:80", False, True),
        ("localhost:80", False, False),
        ("unix:/run/app.sock", True, True),
    ],
)
def test_what_needs_a_resolver(text: str, unix: bool, numeric: bool) -> None:
    address = parse_address(text)
    assert (address.is_unix, address.is_numeric) == (unix, numeric)


def test_at_another_port() -> None:
    assert parse_address("a:80").with_port(81) == parse_address("a:81")
    assert parse_address("unix:/run/app.sock").with_port(81).is_unix


@given(ip=st.ip_addresses(), port=st.integers(0, 65535))
def test_every_ip_address_comes_back(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    address = Address(str(ip), port)
    assert parse_address(str(address)) == address
    assert address.is_numeric


@given(text=st.text())
def test_whatever_is_read_can_be_written_and_read_again(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
