"""The keys of a listener that are for ``mode: http``, and what they say of each other."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from gproxy.config.http_scalars import (
    error_status,
    field_name,
    field_value,
    file_path,
    host_field,
    route_host,
    route_path,
)
from gproxy.config.modes import HTTP_ONLY
from gproxy.config.scalars import boolean, choice, members, network, shown, size, size_between, some_text, whole
from gproxy.config.walk import Section, Table, Value, attempt, scalar, walk, walk_names
from gproxy.core.http.authority import host_name
from gproxy.core.http.end_to_end import HOP_BY_HOP
from gproxy.core.http.fields import FRAMING, canonical
from gproxy.core.http.options import NO_REQUEST_RULE, NO_RESPONSE_RULE
from gproxy.core.http.routes import comparable_path
from gproxy.core.settings import Forwarded, HeaderRules, ListenerSettings, RouteSettings

MAX_ERROR_FILE = 64 * 1024  # bytes; it is kept in memory

_HEAD_SIZE = size_between("64B", "1MiB")

# --- trusted proxies -------------------------------------------------------------------


def _trusted_proxies(value: Value) -> tuple[IPv4Network | IPv6Network, ...]:
    found = [attempt(item, scalar(network)) for item in value.items()]
    return tuple(proxy for proxy in found if proxy)


# --- routes ----------------------------------------------------------------------------

ROUTE: Table = {
    "upstream": scalar(some_text),
    "host": scalar(route_host),
    "path": scalar(route_path),
}


def _routes(value: Value) -> list[Section]:
    found = [attempt(item, _route) for item in value.items()]
    return [section for section in found if section]


def _route(value: Value) -> Section:
    section = walk(value, ROUTE)
    section.require("upstream", "app")
    if not section.unsure and "host" not in section.where and "path" not in section.where:
        value.refuse("needs a host or a path, such as {host: api.example, path: /v1/, upstream: api}")
    return section


def _warn_covered(routes: list[Section]) -> None:
    """Those that an earlier one leaves nothing to. With a problem there are no warnings, so these are good."""
    seen: dict[str, dict[str, int]] = {}  # host -> path -> line
    for route in routes:
        host, path = _comparable(route)
        lines = [
            seen[wider][start] for wider in _wider(host) for start in _starts(path) if start in seen.get(wider, ())
        ]
        if lines:
            route.value.warn(f"never matches: the route on line {min(lines)} takes all of its requests")
        seen.setdefault(host, {}).setdefault(path, route.value.line)


def _comparable(route: Section) -> tuple[str, str]:
    host: str = route.good.get("host", "")
    name = host_name(host.removeprefix("*.").encode()).decode()
    path = comparable_path(route.good.get("path", "/").encode()).decode()
    return "*." + name if host.startswith("*.") else name, path


def _wider(host: str) -> Iterator[str]:
    """The hosts of routes that match whatever one with this host matches."""
    yield host
    if not host:
        return
    yield ""
    labels = host.split(".")
    for count in range(1, len(labels)):
        yield "*." + ".".join(labels[count:])


def _starts(path: str) -> Iterator[str]:
    """The same for paths: each start of whole segments, with the slash at its end."""
    end = path.find("/")
    while end >= 0:
        yield path[: end + 1]
        end = path.find("/", end + 1)


# --- rules for header fields -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """A field to set or to remove, and where that stands."""

    value: Value
    name: str
    text: str = ""

    @property
    def field(self) -> bytes:
        """The name by which fields are told apart."""
        return canonical(self.name.encode())


def _set(value: Value) -> list[_Rule]:
    found = walk_names(value, lambda name, inner: _Rule(inner, field_name(name), field_value(inner.text())))
    return [rule for _, rule in found.values() if rule]


def _remove(value: Value) -> list[_Rule]:
    found = [attempt(item, lambda item: _Rule(item, field_name(item.text()))) for item in value.items()]
    return [rule for rule in found if rule]


HEADER_RULES: Table = {"set": _set, "remove": _remove}

_TRAILER = frozenset({b"trailer"})


def _request_rules(value: Value) -> HeaderRules:
    added, removed = _rules(value, NO_REQUEST_RULE | _TRAILER)
    for rule in added:
        if rule.field == b"host":
            attempt(rule.value, scalar(host_field))
    for rule in removed:
        if rule.field == b"host":
            rule.value.refuse("every request needs Host, which can be set but not removed")
    return _settings(added, removed)


def _response_rules(value: Value) -> HeaderRules:
    return _settings(*_rules(value, NO_RESPONSE_RULE | _TRAILER))


def _rules(value: Value, fixed: frozenset[bytes]) -> tuple[list[_Rule], list[_Rule]]:
    """The fields to set and to remove; ``fixed`` has those that no rule may touch."""
    section = walk(value, HEADER_RULES)
    added, removed = section.good.get("set", []), section.good.get("remove", [])
    for rule in (*added, *removed):
        if rule.field in fixed:
            rule.value.refuse(f"no rule can be made for {shown(rule.name)}: {_why_fixed(rule.field)}")
    _refuse_contradictions(added, removed)
    return added, removed


def _why_fixed(field: bytes) -> str:
    if field in HOP_BY_HOP:
        return "it is about one connection, and gproxy has two"
    if field in FRAMING | _TRAILER:
        return "it says how the body is sent, which gproxy decides"
    return "gproxy relies on it"


def _refuse_contradictions(added: list[_Rule], removed: list[_Rule]) -> None:
    first: dict[bytes, _Rule] = {}
    for rule in added:
        twin = first.setdefault(rule.field, rule)
        if twin is not rule:
            rule.value.refuse(f"{shown(rule.name)} is the field that line {twin.value.line} sets already")
    for rule in removed:
        if rule.field in first:
            line = first[rule.field].value.line
            rule.value.refuse(
                f"{shown(rule.name)} is set on line {line}, which replaces what came; it needs no removal"
            )


def _settings(added: list[_Rule], removed: list[_Rule]) -> HeaderRules:
    return HeaderRules(set=tuple((r.name, r.text) for r in added), remove=tuple(r.name for r in removed))


# --- error files -----------------------------------------------------------------------


def _error_files(value: Value) -> tuple[tuple[int, str], ...]:
    found = walk_names(value, lambda status, inner: (error_status(status), _error_file(inner)))
    return tuple(sorted(pair for _, pair in found.values() if pair))


def _error_file(value: Value) -> str:
    """Its path, absolute; a relative one counts from the configuration file's folder."""
    given = file_path(value.text())
    try:
        path = os.path.join(os.getcwd(), os.path.dirname(value.report.source), given)
        problem = _problem_of(path)
    except OSError as error:
        problem = f"can't be read: {error.strerror or error}"
    if problem:
        raise ValueError(f"{shown(given)} {problem}")
    return path


def _problem_of(path: str) -> str:
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for its writer
        return "is not a regular file"
    with open(path, "rb") as file:
        return f"is larger than {MAX_ERROR_FILE} bytes" if len(file.read(MAX_ERROR_FILE + 1)) > MAX_ERROR_FILE else ""


# --- the listener ----------------------------------------------------------------------

HTTP_LISTENER: Table = {
    "forwarded": scalar(choice(members(*Forwarded))),
    "trusted_proxies": _trusted_proxies,
    "routes": _routes,
    "request_headers": _request_rules,
    "response_headers": _response_rules,
    "max_request_line": scalar(_HEAD_SIZE),
    "max_head": scalar(_HEAD_SIZE),
    "max_fields": scalar(whole(1, 10_000)),
    "max_body": scalar(size),
    "error_files": _error_files,
    "explain_header": scalar(boolean),
}


def refuse_http_keys(listener: Section) -> None:
    """For a listener of another mode."""
    for key in HTTP_LISTENER:
        if key in listener.where:
            listener.refuse(key, HTTP_ONLY)


def check_http_listener(listener: Section) -> None:
    """What the keys say of each other."""
    _warn_covered(listener.good.get("routes", []))
    line: int = listener.good.get("max_request_line", 0)
    head: int = listener.good.get("max_head", _DEFAULTS["max_head"])
    if listener.sure("max_head") and line > head:
        listener.refuse("max_request_line", f"is {line} bytes, above the max_head of {head} bytes")


_DEFAULTS = {setting.name: setting.default for setting in fields(ListenerSettings)}


def http_settings(good: Mapping[str, Any]) -> dict[str, Any]:
    """Of a listener without a problem, what is not in ListenerSettings as it was read."""
    limits = {**_DEFAULTS, **good}
    return {
        "routes": tuple(RouteSettings(**route.good) for route in good.get("routes", ())),
        "max_request_line": min(limits["max_request_line"], limits["max_head"]),
    }
