"""The same as scalars.py for the words of HTTP: names, values, hosts, paths, cookies."""

from __future__ import annotations

import re

from gproxy.config.scalars import MAX_DURATION, duration, shown, some_text
from gproxy.core.http.answers import REASONS
from gproxy.core.http.authority import check_authority
from gproxy.core.http.messages import Malformed

MAX_PATH = 1024  # of a route; it bounds the work of comparing routes

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_PORT = re.compile(r"(?:[^:]*|\[.*\]):[^:\]]*")
_ROUTE_PATH = re.compile(r"/(?:[!$&'()*+,./0-9:;=@A-Z_a-z~-]|%[0-9A-Fa-f]{2})*")
_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


def field_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"must be the name of a header field, such as X-Team, not {shown(text)}")
    return text


def field_value(text: str) -> str:
    """It may be empty; blanks around it would get lost on the way."""
    if not text.isascii() or not all(character.isprintable() for character in text):
        raise ValueError(f"must be printable ASCII text on one line, not {shown(text)}")
    if text != text.strip(" "):
        raise ValueError(f"must not begin or end with a blank: {shown(text)}")
    return text


def host_field(text: str) -> str:
    """What a Host field may say."""
    if not _is_authority(text):
        raise ValueError(f"must be a host with or without a port, such as app.example:8080, not {shown(text)}")
    return text


def route_host(text: str) -> str:
    """A host, or ``*.`` and a suffix. Without a port: a client that names one may well be behind another."""
    below = text.startswith("*.")
    name = text.removeprefix("*.")
    if "*" in name:
        hint = "leave it out for any host" if text == "*" else "write *.example for every name below example"
        raise ValueError(f"has a '*' that is not a whole first label: {shown(text)}; {hint}")
    if _PORT.fullmatch(name):
        raise ValueError(f"must be a host without a port, not {shown(text)}")
    if not _is_authority(name) or (below and name.startswith("[")):
        raise ValueError(f"must be a host such as app.example, *.example or [::1], not {shown(text)}")
    return text


def route_path(text: str) -> str:
    """The start of a path, as it stands in a request line."""
    if not text.startswith("/"):
        raise ValueError(f"must start with '/', such as /v1/, not {shown(text)}")
    if "?" in text or "#" in text:
        raise ValueError(f"must be a path without a query or a fragment, not {shown(text)}")
    if len(text) > MAX_PATH or not _ROUTE_PATH.fullmatch(text):
        raise ValueError(f"must be a path of at most {MAX_PATH} characters, encoded as in a URL, not {shown(text)}")
    if _DOT_SEGMENT.search(text):
        raise ValueError(f"must be a path without '.' and '..' for segments, not {shown(text)}")
    return text


def hash_source(text: str) -> str:
    """``path``, ``header:NAME`` or ``cookie:NAME``."""
    kind, _, name = text.partition(":")
    if text != "path" and (kind not in ("header", "cookie") or not _TOKEN.fullmatch(name)):
        raise ValueError(f'must be path, "header:NAME" or "cookie:NAME", such as "header:X-User", not {shown(text)}')
    return text


def cookie_name(text: str) -> str:
    """YAML's words for truth can't be meant for a name."""
    if text.lower() in ("true", "yes", "on", "false", "no", "off"):
        raise ValueError(f"must be the name of a cookie, such as gproxy, not {shown(text)}; leave it out for none")
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"must be the name of a cookie, such as gproxy, not {shown(text)}")
    return text


def whole_seconds(text: str) -> float:
    """A duration as HTTP writes it."""
    seconds = duration(text)
    if seconds != int(seconds):
        raise ValueError(f"must be whole seconds, from 1s to {MAX_DURATION / 86400:g}d, not {shown(text)}")
    return seconds


def error_status(text: str) -> int:
    """Of a response that gproxy makes itself."""
    if text not in map(str, REASONS):
        options = ", ".join(map(str, REASONS))
        raise ValueError(f"must stand under a status that gproxy itself answers ({options}), not {shown(text)}")
    return int(text)


def file_path(text: str) -> str:
    if text.endswith("/"):
        raise ValueError(f"must be the path of a file, not {shown(text)}")
    return some_text(text)


def _is_authority(text: str) -> bool:
    try:
        check_authority(text.encode("ascii"))
    except (Malformed, UnicodeEncodeError):
        return False
    return True
