"""The whole file: listeners, StatsD, the admin API, the log, and what the sections say of each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gproxy.config.http import HTTP_LISTENER, check_http_listener, http_settings, refuse_http_keys
from gproxy.config.modes import Users
from gproxy.config.scalars import (
    access_log,
    address,
    admin_token,
    choice,
    duration,
    host,
    is_loopback,
    members,
    name,
    pid_file,
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
from gproxy.core.address import Address
from gproxy.core.settings import (
    HUB_WATCHDOG,
    WORKER_TIMEOUT,
    AdminSettings,
    Config,
    Identity,
    ListenerSettings,
    LogSettings,
    Mode,
    OnOverload,
    StatsdSettings,
    UpstreamSettings,
)
from gproxy.errors import ConfigError
from gproxy.privileges import find_group, find_user

MAX_WORKERS = 256

LISTENER: Table = {
    **TIMEOUTS,
    "name": scalar(name),
    "bind": scalar(address),
    "upstream": scalar(some_text),
    "mode": scalar(choice(members(*Mode))),
    "max_connections": scalar(whole(1, 1_000_000)),
    "on_overload": scalar(choice(members(*OnOverload))),
    "backlog": scalar(whole(1, 65535)),
    **HTTP_LISTENER,
}

LISTENER_ELSEWHERE = {"drain_timeout": FOR_ALL_ONLY}

STATSD: Table = {
    "host": scalar(host),
    "port": scalar(whole(1, 65535)),
    "prefix": scalar(statsd_prefix),
}

ADMIN: Table = {
    "bind": scalar(address),
    "token": scalar(admin_token),
}

LOG: Table = {
    "level": scalar(choice(words("debug", "info", "warning", "error"))),
    "format": scalar(choice(words("text", "json"))),
    "access": scalar(access_log),
}


def _workers(value: Value) -> int:
    text = value.text()
    if text == "auto":
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    try:
        return whole(1, MAX_WORKERS)(text)
    except ValueError as error:
        raise ValueError(f"{error}; auto is one for each core") from None


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


def _admin(value: Value) -> Section:
    section = walk(value, ADMIN)
    if section.sure("bind"):
        section.good.setdefault("bind", AdminSettings().bind)
    bind: Address | None = section.good.get("bind")
    if bind is not None and "token" not in section.where and not is_loopback(bind):
        section.refuse("bind", f"{shown(str(bind))} can be reached from elsewhere: needs the key 'token' beside it")
    return section


ROOT: Table = {
    "load_balancer": lambda value: walk(value, LOAD_BALANCER),
    "workers": _workers,
    "max_connections": scalar(whole(1, 1_000_000)),
    "user": scalar(find_user),
    "group": scalar(find_group),
    "pid_file": scalar(pid_file),
    "hub_watchdog": scalar(duration),
    "worker_timeout": scalar(duration),
    "start_timeout": scalar(duration),
    "listeners": _listeners,
    "upstreams": lambda value: value,  # read once load_balancer is known
    "admin": _admin,
    "statsd": lambda value: StatsdSettings(**walk(value, STATSD).good),
    "log": lambda value: LogSettings(**walk(value, LOG).good),
}


def read_config(value: Value) -> Config:
    """The document's meaning; ConfigError with every problem if there is any."""
    root = attempt(value, lambda found: walk(found, ROOT))
    if root is None:
        raise ConfigError(value.report.source, value.report.problems)
    root.require("listeners", "[{bind: 127.0.0.1:9000, upstream: app}]")
    root.require("upstreams", "{app: {backends: [127.0.0.1:9100]}}")
    _check_watchdogs(root)
    _check_identity(root)
    listeners: list[Section] = root.good.get("listeners", [])
    upstreams = _upstreams(root, _users(listeners))
    _check_listeners(listeners, upstreams)
    _refuse_same_bind([*listeners, *_sections(root, "admin")])
    if value.report.problems:
        raise ConfigError(value.report.source, value.report.problems)
    _warn_unused(upstreams, {section.good["upstream"] for listener in listeners for section in _naming(listener)})
    return _config(root, listeners, [upstream for _, upstream in upstreams.values() if upstream])


def _check_watchdogs(root: Section) -> None:
    if not root.sure("hub_watchdog", "worker_timeout"):
        return
    blocked: float = root.good.get("hub_watchdog", HUB_WATCHDOG)
    gone: float = root.good.get("worker_timeout", WORKER_TIMEOUT)
    if gone <= blocked:
        key = "worker_timeout" if "worker_timeout" in root.good else "hub_watchdog"
        root.refuse(key, f"worker_timeout ({gone:g}s) must be longer than hub_watchdog ({blocked:g}s)")


def _check_identity(root: Section) -> None:
    if "group" in root.where and "user" not in root.where:
        root.refuse("group", "needs the key 'user' beside it")
    if "user" not in root.good or not root.sure("group"):
        return
    name, uid, primary = root.good["user"]
    if os.geteuid() != 0:
        _check_own(root, name, uid)
    elif primary is None and "group" not in root.good:
        root.refuse("user", f"user {name} has no name on this system, and so no primary group: needs the key 'group'")


def _check_own(root: Section, name: str, uid: int) -> None:
    """Only root can become another."""
    if uid != os.geteuid():
        root.refuse("user", f"only root can run as {shown(name)}; leave it out, or start gproxy as root")
    elif root.good.get("group", os.getegid()) != os.getegid():
        root.refuse("group", "only root can run as another group; leave it out, or start gproxy as root")


def _identity(root: Section) -> Identity | None:
    """From keys without a problem."""
    if "user" not in root.good:
        return None
    name, uid, primary = root.good["user"]
    own = primary if os.geteuid() == 0 else os.getegid()
    return Identity(uid, root.good.get("group", own), name)


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
    if upstreams:
        for section in listeners:
            _check_targets(section, upstreams)


def _listener_name(section: Section, number: int) -> str:
    found: str = section.good.get("name", f"listener{number}")
    return found


def _sections(root: Section, key: str) -> list[Section]:
    return [root.good[key]] if key in root.good else []


def _refuse_same_bind(sections: list[Section]) -> None:
    first: dict[str, int] = {}
    for section in sections:
        bind = section.good.get("bind")
        if bind is None or not (bind.port or bind.is_unix):
            continue
        place = same_place(bind)
        if place in first:
            section.refuse("bind", f"{shown(str(bind))} is taken by the listener on line {first[place]} already")
        first.setdefault(place, section.where.get("bind", section.value).line)


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


_PROCESS_KEYS = (
    "workers", "max_connections", "pid_file", "hub_watchdog", "worker_timeout", "start_timeout",
    "drain_timeout", "metrics_interval", "statsd", "log",
)  # fmt: skip


def _config(root: Section, listeners: list[Section], upstreams: list[UpstreamSettings]) -> Config:
    """From sections without a problem."""
    found = {**root.good, **root.child("load_balancer").good}
    named: dict[str, Any] = {key: found[key] for key in _PROCESS_KEYS if key in found}
    return Config(
        listeners=tuple(_listener_settings(section, number) for number, section in enumerate(listeners, 1)),
        upstreams=tuple(upstreams),
        identity=_identity(root),
        admin=AdminSettings(**root.child("admin").good) if "admin" in root.good else None,
        warnings=tuple(root.value.report.warnings),
        **named,
    )


def _listener_settings(section: Section, number: int) -> ListenerSettings:
    own = {key: found for key, found in section.good.items() if key not in TIMEOUTS}
    named = {"name": _listener_name(section, number), "overrides": timeouts_in(section)}
    return ListenerSettings(**{**own, **named, **http_settings(section.good)})
