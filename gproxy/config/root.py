"""The whole file: listeners, StatsD, the log, and what the sections say of each other."""

from __future__ import annotations

from typing import Any

from gproxy.config.scalars import (
    access_log,
    address,
    choice,
    host,
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
    HTTP_ONLY,
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

_NO_HTTP = {"http": "http listeners come in a later version; use mode: tcp"}

LISTENER: Table = {
    **TIMEOUTS,
    "name": scalar(name),
    "bind": scalar(address),
    "upstream": scalar(some_text),
    "mode": scalar(choice({"tcp": Mode.TCP}, _NO_HTTP)),
    "max_connections": scalar(whole(1, 1_000_000)),
    "backlog": scalar(whole(1, 65535)),
}

LISTENER_ELSEWHERE = {
    "forwarded": HTTP_ONLY,
    "trusted_proxies": HTTP_ONLY,
    "routes": HTTP_ONLY,
    "drain_timeout": FOR_ALL_ONLY,
}

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
    return section


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
    upstreams = _upstreams(root)
    _check_listeners(listeners, upstreams)
    if value.report.problems:
        raise ConfigError(value.report.source, value.report.problems)
    _warn_unused(upstreams, {section.good["upstream"] for section in listeners})
    return _config(root, listeners, [upstream for _, upstream in upstreams.values() if upstream])


def _upstreams(root: Section) -> Upstreams:
    if "upstreams" not in root.good:
        return {}
    defaults = read_defaults(root.child("load_balancer"))
    return attempt(root.good["upstreams"], lambda value: read_upstreams(value, defaults)) or {}


def _check_listeners(listeners: list[Section], upstreams: Upstreams) -> None:
    names = [_listener_name(section, number) for number, section in enumerate(listeners, 1)]
    refuse_twins([(s.where.get("name", s.value), name) for s, name in zip(listeners, names, strict=True)], "listener")
    _refuse_same_bind(listeners)
    for section in listeners:
        if "upstream" in section.good and upstreams:
            _check_target(section, upstreams)


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


def _check_target(section: Section, upstreams: Upstreams) -> None:
    target = section.good["upstream"]
    if target not in upstreams:
        near = section.value.report.suggest(target, list(upstreams))
        section.refuse("upstream", f"there is no upstream {shown(target)}{near}")
        return
    _, upstream = upstreams[target]
    bind = section.good.get("bind")
    if upstream and bind and same_place(bind) in {same_place(backend.address) for backend in upstream.backends}:
        section.refuse("bind", f"{shown(str(bind))} is a backend of upstream {shown(target)} too: it would dial itself")


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
    return ListenerSettings(**{**own, "name": _listener_name(section, number), "overrides": timeouts_in(section)})
