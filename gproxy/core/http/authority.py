"""A host with or without its port, as `Host` and an absolute-form target write it (RFC 3986 section 3.2).

Narrower than the RFC, since servers differ over the rest: no user information, no empty host, no empty label
(as nginx), no percent-encoding and no sub-delimiters. Names in other scripts come as punycode.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

from gproxy.core.http.messages import Malformed

# No possessive quantifiers: Python before 3.11.4 gets them wrong, and nothing here can be matched in two ways.
_LABEL = rb"[A-Za-z0-9_~-]+"
_AUTHORITY = re.compile(rb"(?:%b(?:\.%b)*\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?" % (_LABEL, _LABEL))
_MAX_LENGTH = 255
_NO_AUTHORITY = "the host is not a name or an address"


def check_authority(value: bytes) -> None:
    """Malformed with 400 for anything but a name, an IPv4 address or a bracketed IPv6 one, with or without a port."""
    objection = _objection(value) if len(value) <= _MAX_LENGTH else _NO_AUTHORITY
    if objection:
        raise Malformed(400, objection)


@lru_cache(maxsize=1024)  # clients ask for few hosts, again and again
def _objection(value: bytes) -> str:
    sound = _AUTHORITY.fullmatch(value)
    if sound is None:
        return _NO_AUTHORITY
    address, port = sound.groups(b"")
    if int(port or b"0") > 65535 or (address and not _is_ipv6(address)):
        return "the host has an impossible address or port"
    return ""


def host_name(value: bytes) -> bytes:
    """The host of a checked authority, made comparable: in lower case, without its port and a name's last dot."""
    if value.startswith(b"["):
        return value[: value.find(b"]") + 1].lower()
    return value.partition(b":")[0].lower().removesuffix(b".")


def _is_ipv6(address: bytes) -> bool:
    try:
        IPv6Address(address.decode())
    except ValueError:
        return False
    return True
