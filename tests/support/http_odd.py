"""Odd requests without a body, about which proxies may differ: targets, hosts, fields, methods and versions.

As in http_mutations.py, NNNN stands for a number of the test's; each has it in X-Mark at least.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.http_mutations import Mutation, show

_MARK = b"X-Mark: mark-NNNN"

_TARGETS = (
    b"//a", b"/a//b", b"/a/../b", b"/../b", b"/a/./b", b"/a/.", b"/..", b"/%2e%2e/b", b"/..%2fb", b"/%", b"/%zz",
    b"/%4", b"/%00", b"/%0d%0aX:%20y", b"/a%2fb", b"/%41", b"/a\\b", b"/?", b"/a?b?c", b"/?a=b&&c", b"/;a=b", b'/"',
    b"/<a>", b"/{a}", b"/a|b", b"/^", b"/`", b"/a'b", b"/a:b", b"/@", b"/a#b", b"/#", b"/\x80", b"/\xc3\xa9",
    b"/\x7f", b"/\x01", b"?a", b"a", b"*", b".", b"/" + b"a" * 5000, b"/" + b"a" * 20000, b"/?" + b"a" * 5000,
    b"http://origin/a", b"HTTP://ORIGIN/a", b"http://other/a", b"http://origin", b"http://origin?a",
    b"http://origin/?a", b"http://origin:80/a", b"http://origin:81/a", b"http://u@origin/a", b"http://u:p@origin/a",
    b"http:///a", b"http://", b"http:/a", b"https://origin/a", b"ftp://origin/a", b"ws://origin/a", b"file:///a",
    b"http://[::1]/a", b"http://a b/", b"http://origin/a#b", b"http://origin//a", b"http://origin/../a", b"origin:80",
    b"http://origin\\a", b"http://a_b/", b"http://-a/", b"http://a..b/", b"http://%61/", b"http://origin:99999/",
    b"http://origin:/",
)  # fmt: skip
_HOSTS = (
    b"origin:", b"origin:0", b"origin:80", b"origin:65535", b"origin:65536", b"origin:+80", b"origin:080", b"origin.",
    b"ORIGIN", b"a_b", b"1.2.3.4", b"1.2.3.4:80", b"[::1]", b"[::1]:80", b"[::1", b"::1", b"[v1.a]", b"[::1%25lo]",
    b"a%41", b"a..b", b"..", b".", b".a", b"-a", b"a-", b"a!b", b"a'b", b"(a)", b"a~b", b"a*b", b"*", b"a;b", b"a=b",
    b"a&b", b"a$b", b"a+b", b"user@a", b"xn--caf-dma", b"caf\xc3\xa9", b"a" * 64, b"a." * 130 + b"a", b"localhost",
    b"0", b"0x7f.1", b'"a"', b"a|b", b"a^b", b"{a}", b"origin, origin", b"", b"origin:80, b", b"origin:a", b"a\\b",
    b"a?b", b"a#b", b"[]", b"[1.2.3.4]", b"a:",
)  # fmt: skip
_FIELDS: tuple[tuple[bytes, ...], ...] = (
    (b"X-Empty:",), (b"X-Spaces:   ",), (b"X-A:a",), (b"X-A:  a  ",), (b"X-A:\ta\t",), (b"X-A: a", b"X-A: b"),
    (b"x_a: a",), (b"X.A: a",), (b"X!A: a",), (b"X~A: a",), (b"X|A: a",), (b"X'A: a",), (b"1: a",),
    (b"X-A: \x80\xff",), (b"X-A: caf\xc3\xa9",), (b"X-A: a\tb",), (b'X-A: "a',), (b"X-A: a:b",), (b"X-A: ,",),
    (b"-: a",), (b"_: a",), (b"X-" + b"A" * 300 + b": a",), (b"X-A: " + b"a" * 5000,), (b"X-A: " + b"a" * 20000,),
    (b"X-A: a",) * 60, (b"X-A: a",) * 120, (b"Cookie: a=b", b"Cookie: c=d"), (b"Cookie: a=b; c",), (b"Cookie:",),
    (b'Cookie: a="b;c"',), (b"Authorization: Basic YTpi", b"Authorization: Basic YTpj"),
    (b"Content-Type: a/b", b"Content-Type: c/d"), (b"Content-Length: 0",), (b"Content-Length: 00",),
    (b"Range: bytes=0-", b"Range: bytes=1-"), (b"Range: nonsense",), (b"Date: yesterday",),
    (b"If-Modified-Since: yesterday",), (b"From: a@b",), (b"Referer: \x80",), (b"User-Agent:",),
    (b"Connection: close",), (b"Connection: keep-alive",), (b"Connection: close, keep-alive",),
    (b"Connection: X-A", b"X-A: a"), (b"Connection: x_a", b"X-A: a"), (b"Connection: Cookie", b"Cookie: a=b"),
    (b"Connection: Authorization", b"Authorization: a"), (b"Connection: Host",),
    (b"Connection:",), (b"Connection: ,",), (b'Connection: "close"',), (b"Keep-Alive: timeout=5",),
    (b"Proxy-Connection: keep-alive",), (b"Proxy-Authorization: Basic YTpi",), (b"Proxy-Authenticate: Basic",),
    (b"TE: trailers",), (b"TE: trailers", b"Connection: TE"), (b"TE: gzip",), (b"Trailer: X-A",),
    (b"Upgrade: websocket",), (b"Upgrade: websocket", b"Connection: Upgrade"),
    (b"Upgrade: h2c", b"Connection: Upgrade"), (b"Upgrade: TLS/1.0", b"Connection: Upgrade"),
    (b"Upgrade: a, b", b"Connection: Upgrade"), (b"HTTP2-Settings: AAMAAABk",), (b"Expect: 100-continue",),
    (b"Expect: 200-ok",), (b"Expect:",), (b"Max-Forwards: 0",), (b"Via: 1.1 gproxy",), (b"Via: 1.1 a",),
    (b"X-Forwarded-For: 1.2.3.4",), (b"X-Forwarded-Host: a",), (b"Forwarded: for=1.2.3.4",),
    (b"X_Forwarded_For: 1.2.3.4",), (b"X-Real-IP: 1.2.3.4",), (b"X-Request-ID: a",), (b"X-Request-ID: a b",),
    (b"Transfer-Encoding: identity",), (b"Content-Encoding: gzip",), (b"X-HTTP-Method-Override: DELETE",),
    (b"Proxy: http://a",), (b"Status: 200",), (b"Sec-WebSocket-Key: a",), (b":path: /b",), (b"Host2: a",),
    (b"X-Original-URL: /b",), (b"Content-Length : 0",),
)  # fmt: skip
_METHODS = (
    b"get", b"Get", b"FOO", b"A!B", b"A.B", b"1", b"-", b"GET_", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"PUT",
    b"POST", b"PATCH", b"CONNECT", b"PROPFIND", b"LOCK", b"MKCOL", b"QUERY", b"PRI", b"G" * 40, b"G" * 300, b"G\xcb",
    b"G(T", b"G@T", b'"GET"', b"G/T",
)  # fmt: skip
_VERSIONS = (
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/1.9",
    b"HTTP/2.0",
    b"HTTP/1.1 ",
    b"HTTP/0.9",
    b"http/1.1",
    b"HTTP/1.01",
    b"",
)
_BEFORE = (b"\r\n", b"\r\n\r\n", b"\n", b"\r\n" * 20, b" ", b"\x00", b"\xef\xbb\xbf", b"\r")


def odd_requests() -> list[Mutation]:
    """All of them, each with a name of its own."""
    sources = (_targets, _hosts, _fields, _methods, _versions, _line_ends)
    return [mutation for source in sources for mutation in source()]


def _get(
    *lines: bytes,
    target: bytes = b"/",
    method: bytes = b"GET",
    host: bytes = b"Host: origin",
    version: bytes = b"HTTP/1.1",
    end: bytes = b"\r\n",
) -> bytes:
    start = b" ".join(part for part in (method, target, version) if part)
    return end.join(line for line in (start, host, _MARK, *lines) if line) + end + end


def _targets() -> Iterator[Mutation]:
    for target in _TARGETS:
        yield Mutation(f"target {_short(target)}", _get(target=target))
    for target in (b"*", b"http://origin", b"http://origin/", b"/*", b"http://origin/*"):
        yield Mutation(f"OPTIONS {_short(target)}", _get(target=target, method=b"OPTIONS"))


def _hosts() -> Iterator[Mutation]:
    for host in _HOSTS:
        yield Mutation(f"Host: {_short(host)}", _get(host=b"Host: " + host))
    for host in (b"Host: a\r\nHost: a", b"Host: a\r\nhost: b", b"Host:a", b"Host:\ta\t", b"hOsT: a"):
        yield Mutation(f"line {_short(host)}", _get(host=host))
    yield Mutation("no Host", _get(host=b""))
    yield Mutation("no Host in HTTP/1.0", _get(host=b"", version=b"HTTP/1.0"))
    yield Mutation("empty Host in HTTP/1.0", _get(host=b"Host:", version=b"HTTP/1.0"))
    yield Mutation("absolute target, no Host", _get(host=b"", target=b"http://origin/a"))
    yield Mutation("absolute target, two Hosts", _get(b"Host: b", target=b"http://origin/a"))


def _fields() -> Iterator[Mutation]:
    for lines in _FIELDS:
        name = " and ".join(_short(line) for line in lines) if len(lines) < 5 else f"{len(lines)} fields"
        yield Mutation(f"GET with {name}", _get(*lines))
        if lines[0].startswith((b"Connection", b"Expect", b"TE", b"Keep-Alive")):
            yield Mutation(f"HTTP/1.0 with {name}", _get(*lines, version=b"HTTP/1.0"))


def _methods() -> Iterator[Mutation]:
    for method in _METHODS:
        yield Mutation(f"method {_short(method)}", _get(method=method))
    yield Mutation("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM mark-NNNN\r\n\r\n")


def _versions() -> Iterator[Mutation]:
    for version in _VERSIONS:
        yield Mutation(f"GET in version {show(version)}", _get(version=version))


def _line_ends() -> Iterator[Mutation]:
    for end in (b"\n", b"\r", b"\n\r"):
        yield Mutation(f"GET whose lines end with {show(end)}", _get(end=end))
    for before in _BEFORE:
        yield Mutation(f"GET after {_short(before)}", before + _get())


def _short(value: bytes) -> str:
    shown = show(value)
    return shown if len(shown) <= 60 else f"{shown[:20]}... of {len(value)} bytes"
