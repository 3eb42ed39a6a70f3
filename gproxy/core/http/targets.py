"""The forms of a request's target besides the usual one that begins with a slash (RFC 9112 section 3.2)."""

from __future__ import annotations

import re

from gproxy.core.http.authority import check_authority
from gproxy.core.http.forward_request import RequestBlock
from gproxy.core.http.messages import Malformed

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[^?#]*)?(\?[^#]*)?", re.IGNORECASE)


def resolve_target(method: bytes, target: bytes, block: RequestBlock) -> tuple[bytes, RequestBlock]:
    """The target and the block to forward, for CONNECT and for every target that doesn't begin with a slash.

    An absolute-form target becomes a path, and its authority the Host, whatever Host said. Malformed: 501 for CONNECT,
    since gproxy is no tunnel to anywhere, and 400 for anything else, an authority without CONNECT included.
    """
    if method == b"CONNECT":
        raise Malformed(501, "CONNECT is not supported")
    if target.startswith(b"/"):
        return target, block
    if target == b"*" and method == b"OPTIONS":
        return target, block
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Malformed(400, "the target is neither a path nor an http URI")
    authority, path, query = absolute.groups(b"")
    check_authority(authority)
    return _origin_form(method, path, query), block.with_host(authority)


def _origin_form(method: bytes, path: bytes, query: bytes) -> bytes:
    if method == b"OPTIONS" and not path and not query:
        return b"*"  # RFC 9112 section 3.2.4
    return (path or b"/") + query
