"""docs/reference.md: every key of the configuration, from the tables that read it and the dataclasses that hold it.

A table in `gproxy.config` says which keys there are and what they take, the metadata of a dataclass's field their
default and the sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from gproxy.config import http, http_scalars, root, scalars, upstreams
from gproxy.config.modes import HTTP_KEYS
from gproxy.config.walk import Scalar, Table
from gproxy.core import settings
from gproxy.core.address import Address
from gproxy.privileges import find_group, find_user
from tests.support.generated import table

HEADS = ("key", "type", "default", "meaning")


@dataclass(frozen=True)
class Part:
    """One section of the file: `path` is where it stands."""

    title: str
    path: str
    table: Table
    held_by: tuple[type, ...]
    note: str = ""
    called: Mapping[str, str] = field(default_factory=dict)  # keys whose field has another name


@dataclass(frozen=True)
class Key:
    path: str
    name: str
    values: str
    default: str
    meaning: str
    http_only: bool


_FOR_ALL = {
    "connection_pool_size": "size",
    "backend_check_interval": "interval",
    "backend_failure_threshold": "fall",
    "retries": "retries",
    "resolve_interval": "resolve_interval",
}
EVERYWHERE = "Each may stand in `load_balancer` for all, and in a listener or an upstream for itself."


def _own(keys: Table) -> Table:
    """Without the timeouts, which have a section of their own."""
    return {name: reader for name, reader in keys.items() if name not in upstreams.TIMEOUTS}


PARTS = (
    Part("The file", "", root.ROOT, (settings.Config, settings.Identity), called={"user": "uid", "group": "gid"}),
    Part(
        "Defaults for all upstreams",
        "load_balancer",
        _own(upstreams.LOAD_BALANCER),
        (settings.Config, settings.UpstreamSettings, settings.PoolSettings, settings.HealthCheckSettings),
        "What an upstream does not say for itself; and the timeouts below.",
        _FOR_ALL,
    ),
    Part("Timeouts", "timeouts", upstreams.TIMEOUTS, (settings.Timeouts,), EVERYWHERE),
    Part("Listeners", "listeners[]", _own(root.LISTENER), (settings.ListenerSettings,), "And any of the timeouts."),
    Part("Routes", "listeners[].routes[]", http.ROUTE, (settings.RouteSettings,), "A host or a path, or both."),
    Part(
        "Rules for fields",
        "listeners[].request_headers",
        http.HEADER_RULES,
        (settings.HeaderRules,),
        "The same keys in `listeners[].response_headers`.",
    ),
    Part("Upstreams", "upstreams.NAME", _own(upstreams.UPSTREAM), (settings.UpstreamSettings,), "And any timeout."),
    Part(
        "Backends",
        "upstreams.NAME.backends[]",
        upstreams.BACKEND,
        (settings.BackendSettings,),
        "An address alone is short for `{address: ...}`.",
    ),
    Part(
        "Policies with an argument",
        "upstreams.NAME.balance",
        upstreams.BALANCE,
        (settings.BalanceSettings,),
        f"One of the two, in the place of a word: {', '.join(f'`{word}`' for word in upstreams.POLICIES)}.",
        {"python": "argument", "hash": "kind"},
    ),
    Part(
        "Sticky clients",
        "upstreams.NAME.sticky",
        upstreams.STICKY,
        (settings.StickySettings,),
        "A name alone is short for `{cookie: NAME}`.",
    ),
    Part("Pools", "upstreams.NAME.pool", upstreams.POOL, (settings.PoolSettings,)),
    Part("Checks", "upstreams.NAME.health_check", upstreams.HEALTH_CHECK, (settings.HealthCheckSettings,)),
    Part("Ejection", "upstreams.NAME.passive_health", upstreams.PASSIVE_HEALTH, (settings.PassiveHealthSettings,)),
    Part("StatsD", "statsd", root.STATSD, (settings.StatsdSettings,)),
    Part("The admin API", "admin", root.ADMIN, (settings.AdminSettings,)),
    Part("Logs", "log", root.LOG, (settings.LogSettings,)),
)

# What a parser takes that was not made for some values, in the words of docs/configuration.md.
_PARSED: dict[Callable[[str], Any], str] = {
    scalars.access_log: "`off`, `-`, path",
    scalars.address: "address",
    scalars.admin_token: f"{scalars.MIN_TOKEN} to {scalars.MAX_TOKEN} of `A-Za-z0-9-._~+/=`",
    scalars.boolean: "true, false",
    scalars.dialled_address: "address",
    scalars.dotted_name: "`package.module:function`",
    scalars.duration: "duration",
    scalars.duration_or_zero: "duration or 0",
    scalars.host: "host",
    scalars.name: "name",
    scalars.pid_file: "path",
    scalars.printable: "text",
    scalars.size: "size",
    scalars.some_text: "text",
    scalars.statsd_prefix: "text",
    scalars.url_path: "text",
    http_scalars.cookie_name: "name",
    http_scalars.hash_source: "`path`, `header:NAME`, `cookie:NAME`",
    http_scalars.route_host: "host",
    http_scalars.route_path: "path",
    http_scalars.whole_seconds: "duration, in whole seconds",
    find_user: "name or id",
    find_group: "name or id",
}

# What is no scalar, and names of the file's own.
_STRUCTURED = {
    "workers": f"1 to {root.MAX_WORKERS}, or `auto`",
    "load_balancer": "mapping",
    "listeners": "list",
    "upstreams": "mapping",
    "admin": "mapping",
    "statsd": "mapping",
    "log": "mapping",
    "listeners[].upstream": "name",
    "listeners[].trusted_proxies": "list of networks",
    "listeners[].routes": "list",
    "listeners[].routes[].upstream": "name",
    "listeners[].request_headers": "mapping",
    "listeners[].response_headers": "mapping",
    "listeners[].request_headers.set": "mapping",
    "listeners[].request_headers.remove": "list",
    "listeners[].error_files": "mapping",
    "upstreams.NAME.backends": "list",
    "upstreams.NAME.balance": "word or mapping",
    "upstreams.NAME.sticky": "cookie or mapping",
    "upstreams.NAME.pool": "mapping",
    "upstreams.NAME.health_check": "mapping",
    "upstreams.NAME.passive_health": "mapping",
    "upstreams.NAME.health_check.expect_status": "statuses",
}

_HTTP_PATHS = {
    *(f"listeners[].{name}" for name in http.HTTP_LISTENER),
    *(".".join(filter(None, ("upstreams.NAME", part, name))) for part, names in HTTP_KEYS.items() for name in names),
    *(f"upstreams.NAME.health_check.{name}" for name in upstreams.HTTP_CHECK_KEYS),
}


def keys_of(part: Part) -> Iterator[Key]:
    held = {each.name: each for owner in reversed(part.held_by) for each in fields(owner)}
    for name, reader in part.table.items():
        path = name if part.path in ("", "timeouts") else f"{part.path}.{name}"
        yield _key(path, name, reader, held.get(part.called.get(name, name)))


def _key(path: str, name: str, reader: Any, held: Field[Any] | None) -> Key:
    if path == "load_balancer":  # what it says is held by those whom it is for
        return Key(path, name, _STRUCTURED[path], "", "what holds for every upstream", False)
    assert held is not None, f"no field holds {path}"
    meaning = held.metadata["doc"]
    http_only = meaning.startswith("http: ")
    return Key(path, name, _values(path, reader), _default(held, path), meaning.removeprefix("http: "), http_only)


def _values(path: str, reader: Any) -> str:
    if path in _STRUCTURED:
        return _STRUCTURED[path]
    assert isinstance(reader, Scalar), f"what {path} takes is not told"
    if isinstance(reader.parse, scalars.Parser):
        return reader.parse.values
    return _PARSED[reader.parse]


def _default(held: Field[Any], path: str) -> str:
    told: str = held.metadata["told"]
    if told or held.default is MISSING:
        return told
    if is_dataclass(held.default) and not isinstance(held.default, Address):
        return ""  # it has keys of its own
    if held.default is None or held.default == ():
        return "none"
    return f"`{_written(held.default, path)}`"


def _written(value: Any, path: str) -> str:
    """As one would write it in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return _duration(value)
    if "max_request_line" in path or "max_head" in path:
        return f"{value // 1024}KiB"
    return str(value)


def _duration(seconds: float) -> str:
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds > 60:
        return f"{seconds / 3600:g}h" if seconds % 3600 == 0 else f"{seconds / 60:g}m"
    return f"{seconds:g}"


def http_paths() -> set[str]:
    """The keys that are refused in another mode, or with another type of check."""
    return _HTTP_PATHS


def render() -> str:
    """All sections, in Markdown."""
    return "\n".join(_section(part) for part in PARTS)


def _section(part: Part) -> str:
    rows = [(f"`{key.path}`", key.values, key.default, _sentence(key)) for key in keys_of(part)]
    note = f"{part.note}\n\n" if part.note else ""
    return f"### {part.title}\n\n{note}{table(HEADS, rows)}"


def _sentence(key: Key) -> str:
    return f"http: {key.meaning}" if key.http_only else key.meaning
