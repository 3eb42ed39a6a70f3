"""Who may ask. Pure: from the settings and a request's fields to None, or to why not.

    Host        ours, or else a page of another site has had its name resolved to our address (DNS rebinding)
    token       where one is configured, and not for /v1/health
    site        a write, or what takes one of few places, is not asked for by a page of another site

A browser tells where a page comes from by Sec-Fetch-Site, and older ones by Origin; programs send neither. A write's
body is of the type application/json, which a page of another site can't send without having asked, and we never allow.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any

from gproxy.admin.answers import JSON, ApiError
from gproxy.core.address import Address
from gproxy.core.settings import AdminSettings

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def check(settings: AdminSettings, port: int, fields: Mapping[str, Any], *, open_to_all: bool, own_site: bool) -> None:
    """ApiError says why not. `fields` is a WSGI environment, `port` where we listen."""
    check_host(settings.bind, port, fields.get("HTTP_HOST", ""))
    if settings.token is not None and not open_to_all:
        _check_token(settings.token, fields.get("HTTP_AUTHORIZATION", ""))
    if own_site:
        _check_site(fields)


def check_host(bind: Address, port: int, host: str) -> None:
    allowed = _hosts(bind, port)
    if allowed is not None and host.lower() not in allowed:
        raise ApiError(421, f"this is not {host[:80]!r}; ask for {', '.join(sorted(allowed))}")


def _hosts(bind: Address, port: int) -> set[str] | None:
    """None where any will do: browsers don't reach unix sockets, and what is bound to all addresses has a token."""
    if bind.is_unix:
        return None
    try:
        address = ipaddress.ip_address(bind.host)
    except ValueError:
        names = (*_LOCAL, bind.host.lower()) if bind.host.lower() == "localhost" else (bind.host.lower(),)
    else:
        if address.is_unspecified:
            return None
        own = f"[{address.compressed}]" if address.version == 6 else address.compressed
        names = (*_LOCAL, own) if address.is_loopback else (own,)
    found = {f"{name}:{port}" for name in names}
    return found | set(names) if port == 80 else found


def _check_token(token: str, authorization: str) -> None:
    scheme, _, given = authorization.partition(" ")
    good = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not good:
        raise ApiError(401, "needs the token, as Authorization: Bearer TOKEN", (("WWW-Authenticate", "Bearer"),))


def _check_site(fields: Mapping[str, Any]) -> None:
    """Who has come by way of a proxy with TLS has another origin than our Host, and a browser that tells the site."""
    site = fields.get("HTTP_SEC_FETCH_SITE", "none")
    if site == "same-origin":
        return
    origin, host = fields.get("HTTP_ORIGIN"), fields.get("HTTP_HOST", "")
    if site != "none" or (origin is not None and origin.lower() != f"http://{host.lower()}"):
        raise ApiError(403, "pages of other sites may not ask for this")


def check_type(fields: Mapping[str, Any]) -> None:
    """Of a write that has a body."""
    given = str(fields.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower()
    if given != JSON:
        raise ApiError(415, f"needs Content-Type: {JSON}")
