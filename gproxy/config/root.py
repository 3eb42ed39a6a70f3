"""The whole file: listeners, StatsD, the log, and what the sections say of each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gproxy.config.http import HTTP_LISTENER, check_http_listener, http_settings, refuse_http_keys
from gproxy.config.modes import Users
from gproxy.config.scalars import (
    access_log,
    address,
    choice,
    host,
    members,
    name,
    same_place,
    shown,
    some_text,
    statsd_prefix,
    whole,
    words,
)
from gproxy.config.upstreams import (
    FOR_ALL_ONLY,
    LOAD_BALANCER,
    TIMEOUTS,
    Upstreams,
    read_defaults,
    read_upstreams,
    timeouts_in,
)
from gproxy.config.walk import Section, Table, Value, attempt, refuse_twins, scalar, walk
from gproxy.core.settings import (
    Config,
    ListenerSettings,
    LogSettings,
    Mode,
    StatsdSettings,
    UpstreamSettings,
)
from gproxy.errors import ConfigError

LISTENER: Table = {
    **TIMEOUTS,
    "name": scalar(name),
    "bind": scalar(address),
    "upstream": scalar(some_text),
    "mode": scalar(choice(members(*Mode))),
    "max_connections": scalar(whole(1, 1_000_000)),
    "backlog": scalar(whole(1, 65535)),
    **HTTP_LISTENER,
}

LISTENER_ELSEWHERE = {"drain_timeout": FOR_ALL_ONLY}

STATSD: Table = {
    "host": scalar(host),
    "port": scalar(whole(1, 65535)),
    "prefix": scalar(statsd_prefix),
}

LOG: Table = {
    "level": scalar(choice(words("debug", "info", "warning", "error"))),
    "format": scalar(choice(words("text", "json"))),
    "access": scalar(access_log),
}


def _workers(value: Value) -> int:
    if value.text() != "1":
        raise ValueError(f"must be 1, not {shown(value.text())}; more than one worker comes in a later version")
    return 1


def _listeners(value: Value) -> list[Section]:
    sections = [attempt(item, _listener) for item in value.items()]
    if not sections:
        raise ValueError("needs at least one listener")
    return [section for section in sections if section]


def _listener(value: Value) -> Section:
    section = walk(value, LISTENER, LISTENER_ELSEWHERE)
    section.require("bind", "127.0.0.1:9000")
    section.require("upstream", "app")
    match _mode(section):
        case Mode.TCP:
            refuse_http_keys(section)
        case Mode.HTTP:
            check_http_listener(section)
    return section


def _mode(listener: Section) -> Mode | None:
    """None where it was refused."""
    found: Mode = listener.good.get("mode", Mode.TCP)
    return found if listener.sure("mode") else None


def _naming(listener: Section) -> list[Section]:
    """The listener and its routes, as far as they name an upstream."""
    return [section for section in (listener, *listener.good.get("routes", ())) if "upstream" in section.good]


ROOT: Table = {
    "load_balancer": lambda value: walk(value, LOAD_BALANCER),
    "workers": _workers,
    "listeners": _listeners,
    "upstreams": lambda value: value,  # read once load_balancer is known
    "statsd": lambda value: StatsdSettings(**walk(value, STATSD).good),
    "log": lambda value: LogSettings(**walk(value, LOG).good),
}

ROOT_ELSEWHERE = {"admin": "the admin interface comes in a later version"}


def read_config(value: Value) -> Config:
    """The document's meaning; ConfigError with every problem if there is any."""
    root = attempt(value, lambda found: walk(found, ROOT, ROOT_ELSEWHERE))
    if root is None:
        raise ConfigError(value.report.source, value.report.problems)
    root.require("listeners", "[{bind: 127.0.0.1:9000, upstream: app}]")
    root.require("upstreams", "{app: {backends: [127.0.0.1:9100]}}")
    listeners: list[Section] = root.good.get("listeners", [])
    upstreams = _upstreams(root, _users(listeners))
    _check_listeners(listeners, upstreams)
    if value.report.problems:
        raise ConfigError(value.report.source, value.report.problems)
    _warn_unused(upstreams, {section.good["upstream"] for listener in listeners for section in _naming(listener)})
    return _config(root, listeners, [upstream for _, upstream in upstreams.values() if upstream])


def _users(listeners: list[Section]) -> dict[str, Users]:
    """Upstreams that listeners name, by their names."""
    found: dict[str, Users] = {}
    for listener in listeners:
        for section in _naming(listener):
            users = found.setdefault(section.good["upstream"], Users())
            users.add(_mode(listener), section.where["upstream"].line)
    return found


def _upstreams(root: Section, users: Mapping[str, Users]) -> Upstreams:
    if "upstreams" not in root.good:
        return {}
    defaults = read_defaults(root.child("load_balancer"))
    return attempt(root.good["upstreams"], lambda value: read_upstreams(value, defaults, users)) or {}


def _check_listeners(listeners: list[Section], upstreams: Upstreams) -> None:
    names = [_listener_name(section, number) for number, section in enumerate(listeners, 1)]
    refuse_twins([(s.where.get("name", s.value), name) for s, name in zip(listeners, names, strict=True)], "listener")
    _refuse_same_bind(listeners)
    if upstreams:
        for section in listeners:
            _check_targets(section, upstreams)


def _listener_name(section: Section, number: int) -> str:
    found: str = section.good.get("name", f"listener{number}")
    return found


def _refuse_same_bind(listeners: list[Section]) -> None:
    first: dict[str, int] = {}
    for section in listeners:
        bind = section.good.get("bind")
        if bind is None or not (bind.port or bind.is_unix):
            continue
        place = same_place(bind)
        if place in first:
            section.refuse("bind", f"{shown(str(bind))} is taken by the listener on line {first[place]} already")
        first.setdefault(place, section.where["bind"].line)


def _check_targets(listener: Section, upstreams: Upstreams) -> None:
    for section in _naming(listener):
        target = section.good["upstream"]
        if target not in upstreams:
            near = section.value.report.suggest(target, list(upstreams))
            section.refuse("upstream", f"there is no upstream {shown(target)}{near}")
    for target in dict.fromkeys(section.good["upstream"] for section in _naming(listener)):
        if target in upstreams:
            _refuse_loop(listener, target, upstreams[target][1])


def _refuse_loop(listener: Section, target: str, upstream: UpstreamSettings | None) -> None:
    bind = listener.good.get("bind")
    if upstream and bind and same_place(bind) in {same_place(backend.address) for backend in upstream.backends}:
        listener.refuse(
            "bind", f"{shown(str(bind))} is a backend of upstream {shown(target)} too: it would dial itself"
        )


def _warn_unused(upstreams: Upstreams, used: set[str]) -> None:
    for target, (value, _) in upstreams.items():
        if target not in used:
            value.warn("no listener uses this upstream")


_PROCESS_KEYS = ("workers", "drain_timeout", "metrics_interval", "statsd", "log")


def _config(root: Section, listeners: list[Section], upstreams: list[UpstreamSettings]) -> Config:
    """From sections without a problem."""
    found = {**root.good, **root.child("load_balancer").good}
    named: dict[str, Any] = {key: found[key] for key in _PROCESS_KEYS if key in found}
    return Config(
        listeners=tuple(_listener_settings(section, number) for number, section in enumerate(listeners, 1)),
        upstreams=tuple(upstreams),
        warnings=tuple(root.value.report.warnings),
        **named,
    )


def _listener_settings(section: Section, number: int) -> ListenerSettings:
    own = {key: found for key, found in section.good.items() if key not in TIMEOUTS}
    named = {"name": _listener_name(section, number), "overrides": timeouts_in(section)}
    return ListenerSettings(**{**own, **named, **http_settings(section.good)})
