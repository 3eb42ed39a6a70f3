"""What of a request ties it to a backend: the cookie of a sticky session, or what `balance: hash` names."""

from __future__ import annotations

from hashlib import blake2b

from gproxy.core.http.fields import Fields
from gproxy.core.settings import StickySettings

_LONGEST_KEY = 256  # bytes


def cookie_value(fields: Fields, name: bytes) -> bytes | None:
    """The value of the first cookie of that name, without quotes around it (RFC 6265 section 5.4)."""
    for line in fields.values(b"cookie"):
        for pair in line.split(b";"):
            its_name, equals, value = pair.partition(b"=")
            if equals and its_name.strip(b" \t") == name:
                return _unquoted(value.strip(b" \t"))
    return None


def sticky_token(upstream: str, backend: str) -> bytes:
    """What a sticky cookie says in the place of a backend's name, which is nobody's business outside."""
    return blake2b(f"{upstream}\n{backend}".encode()).hexdigest()[:16].encode()


def set_cookie(settings: StickySettings, token: bytes) -> bytes:
    """The line that makes a client stay, with its CRLF."""
    line = b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax" % (settings.cookie.encode(), token)
    if settings.max_age is not None:
        line += b"; Max-Age=%d" % settings.max_age
    return line + (b"; Secure\r\n" if settings.secure else b"\r\n")


def hash_key(source: str, fields: Fields, target: bytes) -> str:
    """The key that a source names: `header:NAME`, `cookie:NAME` or `path`. Empty where the request lacks it.

    A header's is its first line; the path is taken as it came, without the query. Of a long one its start stands, with
    a digest: keys are kept for a while (stories.py). ValueError for a source that config.py would have refused.
    """
    kind, _, name = source.partition(":")
    match kind:
        case "header":
            value = fields.get(name.lower().encode())
        case "cookie":
            value = cookie_value(fields, name.encode())
        case "path":
            value = target.partition(b"?")[0]
        case _:
            raise ValueError(f"no source of a hash key {source!r}")
    if not value:
        return ""
    if len(value) > _LONGEST_KEY:
        value = b"%b...%b" % (value[:64], blake2b(value, digest_size=16).hexdigest().encode())
    return value.decode("latin-1")


def _unquoted(value: bytes) -> bytes:
    return value[1:-1] if len(value) > 1 and value.startswith(b'"') and value.endswith(b'"') else value
