"""Which upstream a request is for, by its host and path. The first route that matches both wins.

Paths are compared by whole segments, after what makes two spellings one resource for most servers: the query
is cut off, percent-encoded unreserved characters are decoded (RFC 3986 section 6.2.2.2), several slashes count
as one (as in nginx), and dot segments are resolved. Nothing else is decoded: `%2F` stays part of its segment.
All of that is for the comparison alone; the target is forwarded as it came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from gproxy.core.http.authority import host_name
from gproxy.core.http.messages import Malformed
from gproxy.core.settings import RouteSettings

_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class _Route(NamedTuple):
    host: bytes  # comparable; empty for any
    suffix: bytes  # such as .example.com, for the names below it; empty for none
    path: bytes  # ends in a slash
    upstream: str


class Routes:
    """The routes of one listener. `trivial` when every request is for the default, and `match` need not be asked."""

    __slots__ = ("_default", "_routes", "trivial")

    def __init__(self, routes: Sequence[RouteSettings], default: str) -> None:
        self._routes = [_route(settings) for settings in routes]
        self._default = default
        self.trivial = not routes

    def match(self, host: bytes | None, target: bytes) -> str:
        """The upstream's name. `host` was checked and may have a port. Malformed with 400 for a path above the root."""
        name = host_name(host) if host else b""
        path = comparable_path(target)
        for route in self._routes:
            if path.startswith(route.path) and _is_host(route, name):
                return route.upstream
        return self._default

    def __repr__(self) -> str:
        return f"<Routes {[route.upstream for route in self._routes]} else {self._default}>"


def comparable_path(target: bytes) -> bytes:
    """The path of a target as above, with a slash at its end, so that prefixes end where segments do."""
    path = target.partition(b"?")[0]
    if b"%" in path:
        path = _ENCODED.sub(_decode, path)
    if b"/." in path or b"//" in path:
        path = _resolve(path)
    return path if path.endswith(b"/") else path + b"/"


def _route(settings: RouteSettings) -> _Route:
    host = settings.host.encode()
    below = host.startswith(b"*.")
    name = host_name(host.removeprefix(b"*."))
    return _Route(
        host=b"" if below else name,
        suffix=b"." + name if below else b"",
        path=comparable_path(settings.path.encode() or b"/"),
        upstream=settings.upstream,
    )


def _is_host(route: _Route, name: bytes) -> bool:
    if route.suffix:
        return name.endswith(route.suffix)
    return not route.host or name == route.host


def _decode(encoded: re.Match[bytes]) -> bytes:
    byte = int(encoded.group(1), 16)
    return bytes([byte]) if byte in _UNRESERVED else encoded.group().upper()


def _resolve(path: bytes) -> bytes:
    """Without dot segments and empty ones (RFC 3986 section 5.2.4, but nothing climbs above the root)."""
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            if not segments:
                raise Malformed(400, "the path climbs above the root")
            segments.pop()
        elif segment not in (b"", b"."):
            segments.append(segment)
    return b"/" + b"/".join(segments)
