"""Targets that don't begin with a slash."""

from __future__ import annotations

import pytest

from gproxy.core.http.forward_request import RequestBlock
from gproxy.core.http.messages import HeadLimits, Malformed
from gproxy.core.http.options import ForwardOptions
from gproxy.core.http.targets import resolve_target


def block(
    options: ForwardOptions | None = None, head: bytes = b"HTTP/1.1\r\nHost: old:1\r\nA: b\r\n\r\n"
) -> RequestBlock:
    return RequestBlock(head, HeadLimits(), options or ForwardOptions())


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://new/x?y=http://z", b"new", b"/x?y=http://z"),
        (b"http://new:8080/x", b"new:8080", b"/x"),
        (b"HTTPS://New/", b"New", b"/"),
        (b"http://new", b"new", b"/"),
        (b"http://new?q", b"new", b"/?q"),
        (b"http://new/?", b"new", b"/?"),
        (b"http://[::1]:80/x", b"[::1]:80", b"/x"),
        (b"http://new//x", b"new", b"//x"),
        (b"http://new/a@b:c", b"new", b"/a@b:c"),
    ],
)
def test_an_absolute_target_becomes_a_path_and_its_host(target: bytes, host: bytes, path: bytes) -> None:
    came = block()
    resolved, forwarded = resolve_target(b"GET", target, came)
    assert resolved == path
    assert forwarded.host == host
    assert forwarded.end_to_end == came.end_to_end.replace(b"old:1", host)


def test_the_block_that_came_is_left_as_it_was() -> None:
    came = block()
    resolve_target(b"GET", b"http://new/", came)
    assert came.host == b"old:1"
    assert came.end_to_end.startswith(b"Host: old:1\r\n")


def test_an_absolute_target_gives_http_1_0_the_host_that_it_lacks() -> None:
    _, forwarded = resolve_target(b"GET", b"http://new/", block(head=b"HTTP/1.0\r\n\r\n"))
    assert forwarded.end_to_end.startswith(b"Host: new\r\n")


def test_a_rule_for_host_wins_over_an_absolute_target() -> None:
    _, forwarded = resolve_target(b"GET", b"http://new/", block(ForwardOptions(request_set=((b"Host", b"set"),))))
    assert forwarded.host == b"new"
    assert forwarded.end_to_end.count(b"Host:") == 1
    assert forwarded.end_to_end.startswith(b"Host: set\r\n")


def test_options_asks_of_the_server_as_a_whole() -> None:
    came = block()
    assert resolve_target(b"OPTIONS", b"*", came) == (b"*", came)


def test_options_with_a_bare_absolute_target_is_a_star() -> None:
    target, forwarded = resolve_target(b"OPTIONS", b"http://new:80", block())
    assert (target, forwarded.host) == (b"*", b"new:80")


@pytest.mark.parametrize(("target", "path"), [(b"http://new/", b"/"), (b"http://new?q", b"/?q")])
def test_options_with_a_path_or_query_keeps_it(target: bytes, path: bytes) -> None:
    assert resolve_target(b"OPTIONS", target, block())[0] == path


@pytest.mark.parametrize("target", [b"example.com:443", b"/", b"http://a/", b"*", b"nonsense"])
def test_connect_is_not_supported(target: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        resolve_target(b"CONNECT", target, block())
    assert refused.value.status == 501


@pytest.mark.parametrize(
    "target",
    [
        b"*", b"x", b"index.html", b"?q", b"example.com:443", b"example.com/", b"ftp://a/", b"http:a", b"http:/a", b"http://",
        b"http:///x", b"http://:80/", b"http://user@a/", b"http://user:word@a/", b"http://a:b/", b"http://a,b/",
        b"http://a\\b/", b"http://%61/", b"http://[::1/", b"xhttp://a/", b"http://a/#b", b"http://a?b#c", b"://a/",
        b"**",
    ],
)  # fmt: skip
def test_any_other_target_is_a_bad_request(target: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        resolve_target(b"GET", target, block())
    assert refused.value.status == 400
