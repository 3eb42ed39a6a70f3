"""What a backend is told of the client, and what is believed of what came."""

from __future__ import annotations

import pytest

from gproxy.core.http.client_lines import client_lines
from gproxy.core.http.forward_request import RequestBlock
from gproxy.core.http.messages import HeadLimits
from gproxy.core.http.options import ForwardOptions
from gproxy.core.settings import Forwarded

X_FORWARDED = ForwardOptions()
FORWARDED = ForwardOptions(forwarded=Forwarded.FORWARDED)
OFF = ForwardOptions(forwarded=Forwarded.OFF)
FORGED = b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 443\r\n"


def block(fields: bytes = b"", options: ForwardOptions = X_FORWARDED) -> RequestBlock:
    return RequestBlock(b"HTTP/1.1\r\nHost: shop:80\r\n" + fields + b"\r\n", HeadLimits(), options)


def lines(
    fields: bytes = b"",
    options: ForwardOptions = X_FORWARDED,
    client: str = "192.0.2.1",
    local: str = "198.51.100.1:9000",
    trusted: bool = False,
) -> list[bytes]:
    sent = client_lines(block(fields, options), options, client, local, trusted)
    assert sent == b"" or sent.endswith(b"\r\n")
    return sent.split(b"\r\n")[:-1]


def test_a_backend_is_told_of_the_client() -> None:
    assert lines() == [b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: shop:80"]


def test_what_an_untrusted_client_claims_is_replaced() -> None:
    assert lines(FORGED) == lines()
    assert b"orwarded" not in block(FORGED).end_to_end


def test_what_a_trusted_proxy_says_is_kept_and_extended() -> None:
    assert lines(FORGED, trusted=True) == [
        b"X-Forwarded-For: 6.6.6.6, 192.0.2.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: evil",
        b"X-Forwarded-Port: 443",
    ]


def test_a_trusted_proxy_that_says_nothing_is_told_of_as_a_client() -> None:
    assert lines(trusted=True) == lines()


def test_several_lines_of_a_trusted_proxy_become_one_in_order() -> None:
    came = b"X-Forwarded-For: 1.1.1.1\r\nA: b\r\nx-forwarded-for: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-For:\r\n"
    assert lines(came, trusted=True)[0] == b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1"


def test_an_empty_field_of_a_trusted_proxy_says_nothing() -> None:
    came = b"X-Forwarded-For:\r\nX-Forwarded-Proto:\r\nX-Forwarded-Host:\r\n"
    assert lines(came, trusted=True) == lines()


def test_a_spelling_with_underscores_is_believed_of_nobody() -> None:
    assert lines(b"X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\n", trusted=True) == lines()


def test_other_x_forwarded_fields_pass_from_trusted_proxies_alone() -> None:
    assert b"X-Forwarded-Ssl: on" in lines(b"X-Forwarded-Ssl: on\r\n", trusted=True)
    assert b"X-Forwarded-Ssl: on" not in lines(b"X-Forwarded-Ssl: on\r\n")


def test_a_client_of_a_unix_socket_has_no_address_to_tell() -> None:
    assert lines(client="") == [b"X-Forwarded-Proto: http", b"X-Forwarded-Host: shop:80"]


def test_a_trusted_client_of_a_unix_socket_extends_nothing() -> None:
    assert lines(FORGED, client="", trusted=True)[0] == b"X-Forwarded-For: 6.6.6.6"


def test_without_a_host_none_is_told() -> None:
    came = RequestBlock(b"HTTP/1.0\r\n\r\n", HeadLimits(), X_FORWARDED)
    assert b"Host" not in client_lines(came, X_FORWARDED, "192.0.2.1", "", False)
    assert b"host" not in client_lines(came, FORWARDED, "192.0.2.1", "", False)


def test_off_tells_nothing_and_leaves_what_came() -> None:
    assert lines(FORGED + b"Forwarded: for=a\r\n", OFF, trusted=True) == []
    assert FORGED + b"Forwarded: for=a\r\n" in block(FORGED + b"Forwarded: for=a\r\n", OFF).end_to_end


@pytest.mark.parametrize("name", [b"X-Forwarded-Proto", b"x-forwarded-proto", b"X_Forwarded_Proto"])
@pytest.mark.parametrize("trusted", [False, True])
def test_a_rule_sets_a_forwarding_field_instead(name: bytes, trusted: bool) -> None:
    options = ForwardOptions(request_set=((name, b"wss"),))
    assert b"X-Forwarded-Proto" not in b"".join(lines(FORGED, options, trusted=trusted))
    assert name + b": wss\r\n" in block(FORGED, options).end_to_end


@pytest.mark.parametrize("trusted", [False, True])
def test_a_rule_removes_a_forwarding_field(trusted: bool) -> None:
    options = ForwardOptions(request_remove=frozenset({b"x-forwarded-host"}))
    assert b"X-Forwarded-Host" not in b"".join(lines(FORGED, options, trusted=trusted))


@pytest.mark.parametrize(
    ("client", "local", "line"),
    [
        ("192.0.2.1", "198.51.100.1", b"for=192.0.2.1;host=\"shop:80\";proto=http;by=198.51.100.1"),
        ("192.0.2.1", "198.51.100.1:80", b"for=192.0.2.1;host=\"shop:80\";proto=http;by=\"198.51.100.1:80\""),
        ("2001:db8::1", "[::1]:80", b"for=\"[2001:db8::1]\";host=\"shop:80\";proto=http;by=\"[::1]:80\""),
        ("2001:db8::1", "::1", b"for=\"[2001:db8::1]\";host=\"shop:80\";proto=http;by=\"[::1]\""),
        ("", "unix:/run/web", b"for=unknown;host=\"shop:80\";proto=http"),
        ("", "", b"for=unknown;host=\"shop:80\";proto=http"),
    ],
)  # fmt: skip
def test_forwarded_as_rfc_7239_writes_it(client: str, local: str, line: bytes) -> None:
    assert lines(options=FORWARDED, client=client, local=local) == [b"Forwarded: " + line]


def test_a_host_that_is_a_token_needs_no_quotes() -> None:
    came = RequestBlock(b"HTTP/1.1\r\nHost: shop.test\r\n\r\n", HeadLimits(), FORWARDED)
    assert b";host=shop.test;" in client_lines(came, FORWARDED, "192.0.2.1", "", False)


def test_forwarded_of_an_untrusted_client_is_replaced() -> None:
    assert lines(b"Forwarded: for=6.6.6.6\r\n" + FORGED, FORWARDED) == lines(options=FORWARDED)
    assert b"orwarded" not in block(b"Forwarded: for=6.6.6.6\r\n" + FORGED, FORWARDED).end_to_end


def test_forwarded_of_a_trusted_proxy_is_extended() -> None:
    own = lines(options=FORWARDED)[0].removeprefix(b"Forwarded: ")
    came = b"Forwarded: for=a, for=b\r\nforwarded: for=c\r\nForwarded:\r\n"
    assert lines(came, FORWARDED, trusted=True) == [b"Forwarded: for=a, for=b, for=c, " + own]


def test_the_vocabulary_that_is_not_spoken_is_dropped_even_of_a_trusted_proxy() -> None:
    assert lines(FORGED, FORWARDED, trusted=True) == lines(options=FORWARDED)
    assert lines(b"Forwarded: for=a\r\n", trusted=True) == lines()


def test_a_rule_for_forwarded_leaves_no_line_of_ours() -> None:
    options = ForwardOptions(forwarded=Forwarded.FORWARDED, request_remove=frozenset({b"forwarded"}))
    assert lines(options=options) == []
