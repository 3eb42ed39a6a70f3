"""gproxy's configuration as random numbers choose it. Names, listeners and backends are always the same."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak.origins import OriginProcess

PREFIX = "chaos"
PID_FILE = "gproxy.pid"
ACCESS_LOG = "access.log"
LISTENERS = {"web": "app", "plain": "even", "raw": "bytes", "shared": "lines"}  # and their upstreams
HTTP = ("app", "even")
CALM_CLIENTS = 4  # of each listener: all limits have room for them

_BALANCE: list[Any] = ["round_robin", "least_connections", "p2c", "random", "source_hash"]


@dataclass(frozen=True)
class Settings:
    """One configuration, and what checks must know of it."""

    document: dict[str, Any]

    @property
    def text(self) -> str:
        return json.dumps(self.document, indent=1)

    @property
    def workers(self) -> int:
        return int(self.document["workers"])

    def preconnect(self, upstream: str) -> int:
        return int(self.document["upstreams"][upstream]["pool"].get("preconnect", 0))

    @property
    def connected_ahead(self) -> int:
        """Idle connections that a worker has at rest."""
        upstreams = self.document["upstreams"].items()
        return sum(self.preconnect(name) * len(upstream["backends"]) for name, upstream in upstreams)

    def pools_checks(self, upstream: str) -> bool:
        """Whether its health checks travel on pooled connections."""
        return bool(self.document["upstreams"][upstream]["health_check"].get("use_pool", False))


@dataclass(frozen=True)
class Place:
    """What stays the same in a run."""

    origins: Sequence[OriginProcess]
    directory: Path
    statsd_port: int

    @property
    def http(self) -> dict[str, str]:
        """Addresses of the backends, by name."""
        return {origin.name: f"127.0.0.1:{origin.http_port}" for origin in self.origins}

    @property
    def tcp(self) -> dict[str, str]:
        return {origin.name: f"127.0.0.1:{origin.tcp_port}" for origin in self.origins}


def choose(rng: random.Random, place: Place) -> Settings:
    upstreams = {
        "app": _http(rng, place, limited=True),
        "even": _http(rng, place, limited=False),
        "bytes": _tcp(rng, place, {"reuse": "never", "preconnect": rng.choice([0, 0, 2])}),
        "lines": _tcp(rng, place, {"reuse": "quiescent", "quiescent_for": rng.choice([0.05, 0.1])}),
    }
    listeners = [_listener(rng, name, upstream) for name, upstream in LISTENERS.items()]
    document = {
        "workers": rng.choice([2, 2, 3]),
        "load_balancer": _timeouts(rng),
        "pid_file": str(place.directory / PID_FILE),
        "admin": {"bind": "127.0.0.1:0"},
        "log": {
            "access": rng.choice(["off", str(place.directory / ACCESS_LOG)]),
            "format": rng.choice(["text", "json"]),
        },
        "statsd": {"host": "127.0.0.1", "port": place.statsd_port, "prefix": PREFIX},
        "listeners": listeners,
        "upstreams": upstreams,
    }
    return Settings(document)


def _timeouts(rng: random.Random) -> dict[str, Any]:
    return {
        "backend_connect_timeout": 2,
        "connection_idle_timeout": rng.choice([1.5, 3]),
        "client_idle_timeout": rng.choice([3, 8]),
        "request_head_timeout": 5,
        "response_timeout": rng.choice([4, 6]),
        "stall_timeout": rng.choice([4, 6]),
        "half_close_timeout": rng.choice([3, 5]),
        "queue_timeout": rng.choice([2, 4]),
        "tunnel_timeout": rng.choice([4, 6]),
        "drain_timeout": rng.choice([2, 4]),
        "backend_check_interval": rng.choice([0.5, 1]),
        "metrics_interval": 1,
    }


def _listener(rng: random.Random, name: str, upstream: str) -> dict[str, Any]:
    mode = "http" if upstream in HTTP else "tcp"
    listener: dict[str, Any] = {"name": name, "bind": "127.0.0.1:0", "mode": mode, "upstream": upstream}
    if rng.random() < 0.4:
        listener["max_connections"] = rng.choice([3, 4]) * CALM_CLIENTS
        listener["on_overload"] = rng.choice(["wait", "reject"])
    if mode == "http":
        listener["forwarded"] = rng.choice(["x-forwarded", "forwarded", "off"])
    return listener


def _http(rng: random.Random, place: Place, *, limited: bool) -> dict[str, Any]:
    by_http: dict[str, Any] = {"type": "http", "path": "/health", "use_pool": rng.random() < 0.5}
    check = rng.choice([{"type": "tcp"}, {"type": "none"}, by_http])
    pool = {"size": rng.choice([1, 2, 5, 20]), "reuse": rng.choice(["safe"] * 4 + ["never"])}
    if rng.random() < 0.3:
        pool["preconnect"] = 1
    if rng.random() < 0.3:
        pool |= {"max_uses": 20, "max_age": 5}
    upstream = _upstream(rng, place.http, rng.choice([None, None, 3, 8]) if limited else None)
    upstream |= {"health_check": _check(rng, check), "pool": pool, "retries": rng.choice([0, 1, 2, 3])}
    upstream["passive_health"]["server_errors"] = rng.choice([0, 0, 5])
    if limited and rng.random() < 0.3:
        upstream["sticky"] = "chaos"
    if limited and rng.random() < 0.2:
        upstream["balance"] = rng.choice([{"hash": "path"}, {"hash": "header:X-Mark"}])
    return upstream


def _tcp(rng: random.Random, place: Place, pool: dict[str, Any]) -> dict[str, Any]:
    upstream = _upstream(rng, place.tcp, rng.choice([None, None, 8]))
    pool = {"size": rng.choice([2, 5, 10]), **pool}
    return upstream | {"health_check": _check(rng, {"type": rng.choice(["tcp", "tcp", "none"])}), "pool": pool}


def _check(rng: random.Random, check: dict[str, Any]) -> dict[str, Any]:
    return check if check["type"] == "none" else {**check, "rise": rng.choice([1, 2]), "fall": rng.choice([2, 3])}


def _upstream(rng: random.Random, addresses: dict[str, str], limit: int | None) -> dict[str, Any]:
    more = {} if limit is None else {"max_connections": limit}
    return {
        "balance": rng.choice(_BALANCE),
        "down_action": rng.choice(["keep", "keep", "close_sessions"]),
        "passive_health": {"connect_failures": rng.choice([0, 3]), "eject_for": 1, "max_eject_for": 3},
        "backends": [
            {"name": name, "address": address, "weight": rng.choice([1, 1, 3]), **more}
            for name, address in addresses.items()
        ],
    }
