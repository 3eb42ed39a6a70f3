"""What the fuzzer of each target begins with, and the words that it may put in."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.http_lies import lying_answers
from tests.support.http_mutations import mutations
from tests.support.proxy import TOP

_HTTP_WORDS = (
    b"\r\n", b"\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked", b"Host: ", b"Connection: ",
    b"HTTP/1.1", b"HTTP/1.0", b"Upgrade: ", b"Expect: 100-continue", b"X-Forwarded-For: ", b"Cookie: ",
    b"Via: ", b"0\r\n\r\n", b"http://", b"OPTIONS", b"CONNECT", b"[::1]", b"TE: ", b"_", b"\t", b"\x80",
    b"keep-alive", b"close",
)  # fmt: skip
_YAML_WORDS = (
    b"listeners:", b"upstreams:", b"backends:", b"bind: ", b"mode: http", b"upstream: ", b"balance: ",
    b"pool: ", b"${A}", b"health_check: ", b"127.0.0.1:1", b"unix:/a", b"{", b"}", b"[", b"]", b": ", b"- ",
    b"&a ", b"*a", b"<<: ", b"!!str ", b"\n", b"  ", b"routes: ", b"sticky: ", b"request_headers: ", b"set: ",
    b"remove: ", b"python: ", b"admin: ", b"log: ", b"statsd: ", b"5s", b"1KiB", b"null", b"|", b">", b'"',
    b"#", b"%", b"? ", b"---\n", b"\xef\xbb\xbf", b"\xc2\x85",
)  # fmt: skip
_ADMIN_WORDS = (
    b"GET ", b"PUT ", b"POST ", b"/v1/state", b"/v1/upstreams/app/backends/b1", b"/eject", b"/readmit",
    b"/empty-pool", b"/v1/log", b"/v1/reload", b"/v1/decisions?last=", b"/metrics", b"/v1/health?upstream=",
    b"Host: localhost:9901", b"Content-Type: application/json", b'{"seconds": 1}', b'{"weight": 2}',
    b'{"administrative": "drain"}', b"%", b"%2f", b"Authorization: Bearer ", b"Accept: ", b"Origin: ",
    b"Sec-Fetch-Site: ", b'{"level": "info"}', b"e", b"\\u0000",
)  # fmt: skip

_HOST = b"Host: localhost:9901\r\n"
_ADMIN_REQUESTS = (
    b"GET /v1/state HTTP/1.1\r\n%s\r\n" % _HOST,
    b"GET /metrics HTTP/1.0\r\n%s\r\n" % _HOST,
    b"GET /v1/decisions?last=5 HTTP/1.1\r\n%sAccept: application/json\r\n\r\n" % _HOST,
    b"GET /v1/health?upstream=app HTTP/1.1\r\n%s\r\nGET /v1/openapi.json HTTP/1.1\r\n%s\r\n" % (_HOST, _HOST),
    b"HEAD /v1/upstreams/app/backends/b1 HTTP/1.1\r\n%s\r\n" % _HOST,
    b"GET /v1/explain?last=3&client=10.0.0.1&failed=true HTTP/1.1\r\n%s\r\n" % _HOST,
)
_ADMIN_WRITES = (
    (b"PUT /v1/upstreams/app/backends/b1", b'{"administrative": "drain", "weight": 3}'),
    (b"POST /v1/upstreams/app/backends/b1/eject", b'{"seconds": 2.5}'),
    (b"POST /v1/upstreams/app/backends/b1/empty-pool", b"{}"),
    (b"PUT /v1/log", b'{"level": "info"}'),
    (b"POST /v1/reload", b"{}"),
)


def requests() -> list[bytes]:
    return [mutation.raw for mutation in mutations()]


def responses() -> list[bytes]:
    return [lie.raw for lie in lying_answers()]


def chunked() -> list[bytes]:
    """As `chunked_law` takes them: in one piece, and byte by byte at first."""
    messages = [raw.partition(b"\r\n\r\n") for raw in requests()]
    bodies = [body for head, _, body in messages if b"chunked" in head]
    return [cuts + b"\0" + body for body in bodies for cuts in (b"", b"\1" * 40)]


def configurations() -> list[bytes]:
    """The examples, and the blocks in the documents."""
    files = [path.read_bytes() for path in (TOP / "etc").glob("*.yaml")]
    page = (TOP / "docs/configuration.md").read_bytes()
    return files + [block.partition(b"```")[0] for block in page.split(b"```yaml\n")[1:]]


def admin_requests() -> list[bytes]:
    writes = [frame(start, body) for start, body in _ADMIN_WRITES for frame in (by_length, by_chunks)]
    return [*_ADMIN_REQUESTS, *writes]


def by_length(start: bytes, body: bytes) -> bytes:
    framing = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    return b"%s HTTP/1.1\r\n%s%s\r\n%s" % (start, _HOST, framing, body)


def by_chunks(start: bytes, body: bytes) -> bytes:
    framing = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    return b"%s HTTP/1.1\r\n%s%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (start, _HOST, framing, len(body), body)


def dictionary(words: Iterable[bytes]) -> str:
    """In libFuzzer's format."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)


SEEDS = {
    "requests": requests,
    "responses": responses,
    "chunked": chunked,
    "config": configurations,
    "admin": admin_requests,
}
WORDS = {
    "requests": _HTTP_WORDS,
    "responses": _HTTP_WORDS,
    "chunked": _HTTP_WORDS,
    "config": _YAML_WORDS,
    "admin": (*_HTTP_WORDS, *_ADMIN_WORDS),
}
