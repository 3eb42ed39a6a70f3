"""The sections ``load_balancer`` and ``upstreams``: keys, inheritance, and what can't work together.

An upstream's value is the first of: its own key, load_balancer's, the built-in default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gproxy.config.http_scalars import cookie_name, hash_source, whole_seconds
from gproxy.config.modes import Users, mode_defaults, refuse_other_mode
from gproxy.config.scalars import (
    boolean,
    choice,
    dialled_address,
    dotted_name,
    duration,
    duration_or_zero,
    members,
    name,
    printable,
    same_place,
    shown,
    some_text,
    status_ranges,
    url_path,
    whole,
    words,
)
from gproxy.config.walk import Section, Table, Value, attempt, refuse_twins, scalar, walk, walk_names
from gproxy.core.settings import (
    AllDown,
    BackendSettings,
    BalanceSettings,
    DownAction,
    HealthCheckSettings,
    PassiveHealthSettings,
    PoolSettings,
    Probe,
    Reuse,
    StickySettings,
    Timeouts,
    UpstreamSettings,
)

FOR_ALL_ONLY = "stands under load_balancer only, it holds for the whole process"
HTTP_CHECK_KEYS = ("path", "host", "expect_status", "expect_body", "use_pool")

_CONNECTIONS = whole(1, 1_000_000)
_RETRIES = whole(0, 100)
_CHECKS = whole(1, 1000)

TIMEOUTS: Table = {timeout.name: scalar(duration) for timeout in fields(Timeouts)}

LOAD_BALANCER: Table = {
    **TIMEOUTS,
    "connection_pool_size": scalar(_CONNECTIONS),
    "backend_check_interval": scalar(duration),
    "backend_failure_threshold": scalar(_CHECKS),
    "metrics_interval": scalar(duration),
    "drain_timeout": scalar(duration_or_zero),
    "resolve_interval": scalar(duration),
    "retries": scalar(_RETRIES),
}

POOL: Table = {
    "size": scalar(_CONNECTIONS),
    "reuse": scalar(choice(members(*Reuse))),
    "preconnect": scalar(whole(0, 10_000)),
    "idle_timeout": scalar(duration),
    "max_age": scalar(duration),
    "max_uses": scalar(whole(1, 1_000_000_000)),
    "quiescent_for": scalar(duration_or_zero),
}


def _expect_status(value: Value) -> tuple[tuple[int, int], ...]:
    if not value.is_list:
        return status_ranges(value.text())
    ranges = [attempt(item, scalar(status_ranges)) for item in value.items()]
    if not ranges:
        raise ValueError("needs at least one status, such as 200-399")
    return tuple(pair for found in ranges for pair in found or ())


HEALTH_CHECK: Table = {
    "type": scalar(choice(members(*Probe))),
    "interval": scalar(duration),
    "fast_interval": scalar(duration),
    "timeout": scalar(duration),
    "rise": scalar(_CHECKS),
    "fall": scalar(_CHECKS),
    "port": scalar(whole(1, 65535)),
    "path": scalar(url_path),
    "host": scalar(printable),
    "expect_status": _expect_status,
    "expect_body": scalar(some_text),
    "use_pool": scalar(boolean),
}

PASSIVE_HEALTH: Table = {
    "connect_failures": scalar(whole(0, 1000)),
    "server_errors": scalar(whole(0, 1000)),
    "eject_for": scalar(duration),
    "max_eject_for": scalar(duration),
    "max_ejected_percent": scalar(whole(0, 100)),
}

BACKEND: Table = {
    "name": scalar(name),
    "address": scalar(dialled_address),
    "weight": scalar(whole(1, 1000)),
    "max_connections": scalar(_CONNECTIONS),
    "backup": scalar(boolean),
}

BALANCE: Table = {
    "python": scalar(dotted_name),
    "hash": scalar(hash_source),
}

POLICIES = ("round_robin", "least_connections", "p2c", "random", "source_hash")


def _balance(value: Value) -> BalanceSettings:
    """A word, or a mapping of the kind that needs an argument."""
    if not value.is_mapping:
        return BalanceSettings(kind=scalar(choice(words(*POLICIES)))(value))
    section = walk(value, BALANCE)
    if not section.where and not section.unsure:
        raise ValueError('needs a policy, such as round_robin or {python: "package.module:choose"}')
    if len(section.where) > 1:
        raise ValueError(f"has {len(section.where)} policies; give one")
    [kind] = section.where or ["python"]
    return BalanceSettings(kind=kind, argument=section.good.get(kind, ""))


STICKY: Table = {
    "cookie": scalar(cookie_name),
    "max_age": scalar(whole_seconds),
    "secure": scalar(boolean),
}


def _sticky(value: Value) -> StickySettings:
    """A cookie's name alone, or a mapping."""
    section = walk(value, STICKY) if value.is_mapping else Section(value)
    if not value.is_mapping:
        section.take("cookie", value, STICKY["cookie"])
    sticky = StickySettings(**section.good)
    if sticky.cookie.lower().startswith(("__host-", "__secure-")) and section.sure("secure") and not sticky.secure:
        section.refuse("cookie", f"browsers take a cookie {shown(sticky.cookie)} only with secure: true")
    return sticky


def _backends(value: Value) -> list[tuple[Value, BackendSettings | None]]:
    return [(item, attempt(item, _backend)) for item in value.items()]


def _backend(value: Value) -> BackendSettings | None:
    """From an address alone or a mapping; None when a mapping's address is no good."""
    if not value.is_mapping:
        address = dialled_address(value.text())
        return BackendSettings(name=str(address), address=address)
    section = walk(value, BACKEND)
    section.require("address", "127.0.0.1:9100")
    if "address" not in section.good:
        return None
    return BackendSettings(**{"name": str(section.good["address"]), **section.good})


UPSTREAM: Table = {
    **TIMEOUTS,
    "balance": _balance,
    "retries": scalar(_RETRIES),
    "all_down": scalar(choice(members(*AllDown))),
    "retry_after": scalar(whole_seconds),
    "sticky": _sticky,
    "down_action": scalar(choice(members(*DownAction))),
    "resolve_interval": scalar(duration),
    "pool": lambda value: walk(value, POOL),
    "health_check": lambda value: walk(value, HEALTH_CHECK),
    "passive_health": lambda value: walk(value, PASSIVE_HEALTH),
    "backends": _backends,
}

UPSTREAM_ELSEWHERE = {
    "drain_timeout": FOR_ALL_ONLY,
    "metrics_interval": FOR_ALL_ONLY,
    "connection_pool_size": "stands under load_balancer; here it is `size` under `pool`",
    "backend_check_interval": "stands under load_balancer; here it is `interval` under `health_check`",
    "backend_failure_threshold": "stands under load_balancer; here it is `fall` under `health_check`",
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What load_balancer says for every upstream, by the keys that the upstream's own sections have for it.

    ``unsure`` has those that it got wrong: nothing may be compared with them.
    """

    timeouts: Timeouts
    pool: Mapping[str, Any]
    health_check: Mapping[str, Any]
    upstream: Mapping[str, Any]
    unsure: frozenset[str]

    def with_mode(self, users: Users) -> Defaults:
        """Those for an upstream with these users."""
        by_mode = mode_defaults(users)
        return replace(self, pool={**by_mode["pool"], **self.pool}, upstream={**by_mode["upstream"], **self.upstream})


_AS_POOL = {"connection_pool_size": "size"}
_AS_HEALTH_CHECK = {"backend_check_interval": "interval", "backend_failure_threshold": "fall"}
_AS_UPSTREAM = {"retries": "retries", "resolve_interval": "resolve_interval"}


def read_defaults(section: Section) -> Defaults:
    """From ``load_balancer`` as ``walk`` read it."""

    def renamed(names: Mapping[str, str]) -> dict[str, Any]:
        return {own: section.good[key] for key, own in names.items() if key in section.good}

    return Defaults(
        timeouts=Timeouts().override(timeouts_in(section)),
        pool=renamed(_AS_POOL),
        health_check=renamed(_AS_HEALTH_CHECK),
        upstream=renamed(_AS_UPSTREAM),
        unsure=frozenset(own for key, own in (_AS_POOL | _AS_HEALTH_CHECK).items() if not section.sure(key)),
    )


def timeouts_in(section: Section) -> tuple[tuple[str, float], ...]:
    """The timeouts that a section names."""
    return tuple((key, section.good[key]) for key in TIMEOUTS if key in section.good)


Upstreams = dict[str, tuple[Value, UpstreamSettings | None]]


def read_upstreams(value: Value, defaults: Defaults, users: Mapping[str, Users]) -> Upstreams:
    """Every upstream by its name and with its place, None for one that is no good."""

    def read(upstream_name: str, child: Value) -> UpstreamSettings:
        return _upstream(upstream_name, child, defaults, users.get(upstream_name, Users()))

    found = walk_names(value, read)
    if not value.node.value:
        raise ValueError("needs at least one upstream")
    refuse_twins([(child, key) for key, (child, _) in found.items()], "upstream")
    return found


def _upstream(upstream_name: str, value: Value, defaults: Defaults, users: Users) -> UpstreamSettings:
    attempt(value, lambda _: name(upstream_name))
    section = walk(value, UPSTREAM, UPSTREAM_ELSEWHERE)
    refuse_other_mode(section, users)
    defaults = defaults.with_mode(users)
    timeouts = defaults.timeouts.override(timeouts_in(section))
    backends = _checked_backends(section)
    own = {key: found for key, found in section.good.items() if key not in TIMEOUTS}
    built = {
        "name": upstream_name,
        "backends": tuple(backend for _, backend in backends),
        "timeouts": timeouts,
        "pool": _pool(section.child("pool"), defaults, timeouts, backends),
        "health_check": _health_check(section.child("health_check"), defaults, backends),
        "passive_health": _passive_health(section.child("passive_health")),
    }
    return UpstreamSettings(**{**defaults.upstream, **own, **built})


Backends = list[tuple[Value, BackendSettings]]


def _checked_backends(section: Section) -> Backends:
    section.require("backends", "[127.0.0.1:9100]")
    if "backends" in section.good and not section.good["backends"]:
        section.refuse("backends", "needs at least one backend")
    backends = [(value, backend) for value, backend in section.good.get("backends", []) if backend]
    refuse_twins([(value, backend.name) for value, backend in backends], "backend of this upstream")
    _refuse_same_address(backends)
    return backends


def _refuse_same_address(backends: Backends) -> None:
    first: dict[str, Value] = {}
    for value, backend in backends:
        twin = first.setdefault(same_place(backend.address), value)
        if twin is not value:
            value.refuse(f"{shown(str(backend.address))} is the address of the backend on line {twin.line} already")


def _pool(section: Section, defaults: Defaults, timeouts: Timeouts, backends: Backends) -> PoolSettings:
    inherited = {"idle_timeout": timeouts.connection_idle_timeout, **defaults.pool}
    pool = PoolSettings(**{**inherited, **section.good})
    if _sure(section, "size", defaults) and pool.preconnect > pool.size:
        section.refuse("preconnect", f"is {pool.preconnect}, above the pool's size of {pool.size}")
    for _, backend in backends:
        if backend.max_connections is not None and pool.preconnect > backend.max_connections:
            limit = f"the max_connections of backend {shown(backend.name)}, {backend.max_connections}"
            section.refuse("preconnect", f"is {pool.preconnect}, above {limit}")
    return pool


def _sure(section: Section, key: str, defaults: Defaults) -> bool:
    return section.sure(key) and (key in section.good or key not in defaults.unsure)


def _health_check(section: Section, defaults: Defaults, backends: Backends) -> HealthCheckSettings:
    check = HealthCheckSettings(**{**defaults.health_check, **section.good})
    if "fast_interval" not in section.where:
        check = replace(check, fast_interval=min(check.fast_interval, check.interval))
    elif (
        section.sure("fast_interval") and _sure(section, "interval", defaults) and check.fast_interval > check.interval
    ):
        section.refuse("fast_interval", f"is {check.fast_interval:g} s, above the interval of {check.interval:g} s")
    _check_probe(section, check, backends)
    return check


def _check_probe(section: Section, check: HealthCheckSettings, backends: Backends) -> None:
    if section.sure("type") and check.type is Probe.TCP:
        for key in HTTP_CHECK_KEYS:
            if key in section.where:
                section.refuse(key, "only for a health check of type: http")
    if check.port and check.use_pool:
        section.refuse("use_pool", "can't be used with another port: the pool's connections lead to the backend's own")
    if check.port and any(backend.address.is_unix for _, backend in backends):
        section.refuse("port", "can't be another port where a backend is a unix socket")


def _passive_health(section: Section) -> PassiveHealthSettings:
    passive = PassiveHealthSettings(**section.good)
    if "max_eject_for" not in section.where:
        return replace(passive, max_eject_for=max(passive.eject_for, passive.max_eject_for))
    if section.sure("eject_for", "max_eject_for") and passive.eject_for > passive.max_eject_for:
        limit = f"{passive.eject_for:g} s, the first ejection (eject_for)"
        section.refuse("max_eject_for", f"is {passive.max_eject_for:g} s, below {limit}")
    return passive
