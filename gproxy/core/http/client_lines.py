"""The forwarding fields: who the client is, for a backend that sees only gproxy.

What came of them is believed, and extended, only if it came from a trusted proxy; else it was left out with
the rest of the block (forward_request.py) and these take its place. A field that a rule sets or removes is the
rule's alone, so that an operator behind TLS can set `X-Forwarded-Proto: https`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gproxy.core.http.end_to_end import Line, field_lines
from gproxy.core.http.fields import Fields, canonical
from gproxy.core.http.forward_request import RequestBlock
from gproxy.core.http.options import ForwardOptions
from gproxy.core.settings import Forwarded

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def client_lines(block: RequestBlock, options: ForwardOptions, client: str, local: str, trusted: bool) -> bytes:
    """The forwarding lines, each with its CRLF. Called once for each connection and block.

    `client` is an ip address, empty for a unix socket. `local` is where it connected to: an ip address with or without
    a port (an IPv6 one with a port in brackets), empty or `unix:/path` for a unix socket.
    """
    if options.forwarded is Forwarded.OFF:
        return b""
    came = Fields(block.forwarded_for if trusted else ())
    if options.forwarded is Forwarded.FORWARDED:
        lines = [_forwarded(came, block.host, client, local)]
    else:
        lines = list(_x_forwarded(came, block.host, client))
    ruled = options.request_ruled
    return field_lines(line for line in lines if canonical(line[0]) not in ruled)


def _x_forwarded(came: Fields, host: bytes | None, client: str) -> Iterator[Line]:
    """X-Forwarded-For is extended; of the others, what came says more than we know."""
    chain = [address for address in (*came.values(b"x-forwarded-for"), client.encode()) if address]
    if chain:
        yield b"X-Forwarded-For", b", ".join(chain)
    if not came.get(b"x-forwarded-proto"):
        yield b"X-Forwarded-Proto", b"http"
    if host and not came.get(b"x-forwarded-host"):
        yield b"X-Forwarded-Host", host
    for name, value in came.lines:
        if value and name.lower() != b"x-forwarded-for":
            yield name, value


def _forwarded(came: Fields, host: bytes | None, client: str, local: str) -> Line:
    """RFC 7239: each proxy adds one element, with what it saw itself."""
    pairs = [b"for=" + (_quoted(_node(client)) if client else b"unknown")]
    if host:
        pairs.append(b"host=" + _quoted(host))
    pairs.append(b"proto=http")
    if local and not local.startswith("unix:"):
        pairs.append(b"by=" + _quoted(_node(local)))
    elements = [value for value in came.values(b"forwarded") if value]
    return b"Forwarded", b", ".join([*elements, b";".join(pairs)])


def _node(address: str) -> bytes:
    if address.count(":") > 1 and not address.startswith("["):
        return b"[%b]" % address.encode()
    return address.encode()


def _quoted(value: bytes) -> bytes:
    return value if _TOKEN.fullmatch(value) else b'"%b"' % value
