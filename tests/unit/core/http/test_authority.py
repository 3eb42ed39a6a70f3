"""Hosts that are taken, hosts that are refused, and the name by which they are compared."""

from __future__ import annotations

import pytest

from gproxy.core.http.authority import check_authority, host_name
from gproxy.core.http.messages import Malformed

GOOD = [
    b"example.com", b"example.com.", b"EXAMPLE.com:80", b"a", b"a:", b"a:0", b"a:65535", b"under_score.example",
    b"xn--bcher-kva.example", b"-a-.b", b"127.0.0.1", b"127.0.0.1:8080", b"[::1]", b"[::1]:80", b"[2001:db8::1]:",
    b"[::ffff:192.0.2.1]", b"a" * 255,
]  # fmt: skip

BAD = [
    b"", b":80", b".", b"..", b".a", b"a..b", b"a.b..", b"a:b", b"a:65536", b"a:123456", b"a:+1", b"a:80:80", b"::1",
    b"a b", b"a,b", b"a/b", b"a?b", b"a#b", b"a@b", b"user@a:80", b"a\\b", b"%61", b"a%00", b"a;b", b"a'b", b"a\tb",
    b"\xc3\xbc", b"[::1", b"::1]", b"[]", b"[a]", b"[1]", b"[::1]a", b"[::1].", b"[fe80::1%25eth0]", b"[1.2.3.4]",
    b"[::1:::]", b"[v1.a]", b"a" * 256,
]  # fmt: skip


@pytest.mark.parametrize("value", GOOD)
def test_a_name_or_an_address_is_taken(value: bytes) -> None:
    check_authority(value)


@pytest.mark.parametrize("value", BAD)
def test_anything_else_is_a_bad_request(value: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        check_authority(value)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"Example.COM", b"example.com"),
        (b"example.com:8080", b"example.com"),
        (b"example.com.", b"example.com"),
        (b"example.com.:80", b"example.com"),
        (b"[2001:DB8::1]:80", b"[2001:db8::1]"),
        (b"[::1]", b"[::1]"),
    ],
)
def test_hosts_are_compared_without_case_port_and_last_dot(value: bytes, name: bytes) -> None:
    assert host_name(value) == name
