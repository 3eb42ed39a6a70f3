"""Addresses to endpoints. Look-ups run in gevent's thread pool, so that the hub goes on."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, gaierror
from collections.abc import Callable

from gevent import Timeout
from gevent.socket import getaddrinfo

from gproxy.core.address import Address
from gproxy.errors import GproxyError
from gproxy.net.connection import Endpoint

LOOKUP_TIMEOUT = 5.0  # seconds

Resolve = Callable[[Address], tuple[Endpoint, ...]]


class ResolveError(GproxyError):
    """A host name has no address, or nobody said so in time."""


def literal(address: Address) -> tuple[Endpoint, ...]:
    """The endpoint of a numeric address or a unix path; none for a host name."""
    if address.is_unix:
        return (Endpoint(AF_UNIX, address.path),)
    if not address.is_numeric:
        return ()
    if ":" in address.host:
        return (Endpoint(AF_INET6, (address.host, address.port, 0, 0)),)
    return (Endpoint(AF_INET, (address.host, address.port)),)


def resolve(address: Address) -> tuple[Endpoint, ...]:
    """All endpoints of an address in the resolver's order; ResolveError where there are none.

    The caller's greenlet waits, at most `LOOKUP_TIMEOUT`.
    """
    known = literal(address)
    if known:
        return known
    try:
        with Timeout(LOOKUP_TIMEOUT, ResolveError(f"{address.host}: no answer within {LOOKUP_TIMEOUT:g} s")):
            found = getaddrinfo(address.host, address.port, 0, SOCK_STREAM)
    except (gaierror, UnicodeError) as error:
        raise ResolveError(f"{address.host}: {getattr(error, 'strerror', None) or error}") from error
    return tuple(dict.fromkeys(Endpoint(family, sockaddr) for family, _, _, _, sockaddr in found))
