"""Documents as /v1/state has them, for what reads them."""

from __future__ import annotations

from typing import Any

from gproxy.metrics import COUNTERS, BackendStats, ListenerStats

Document = dict[str, Any]


def backend(name: str, **more: Any) -> Document:
    """Up and ready; `more` may name its counters, too."""
    found: Document = {
        "name": name, "address": f"10.0.0.1:{9100 + len(name)}", "operational": "up", "administrative": "ready",
        "weight": 1, "configured_weight": 1, "backup": False, "max_connections": None, "ejected": 0,
        "active": 0, "idle": 0, "queue": 0, "counters": dict.fromkeys(BackendStats.COUNTERS, 0),
    }  # fmt: skip
    return _with(found, more)


def listener(name: str, **more: Any) -> Document:
    found: Document = {
        "name": name, "address": "127.0.0.1:8080", "mode": "http", "upstreams": ["app"], "sessions": 0,
        "max_connections": 100, "counters": dict.fromkeys(ListenerStats.COUNTERS, 0),
    }  # fmt: skip
    return _with(found, more)


def state(backends: list[Document], listeners: list[Document] | None = None, **more: Any) -> Document:
    """Of one upstream, `app`, and two workers."""
    found: Document = {
        "version": "1.2.3", "master": 4711, "uptime": 7300.0, "generation": 1, "reload": None, "ending": False,
        "log_level": "info", "sessions": 0, "max_connections": None,
        "counters": {name: 0 for name, _ in COUNTERS}, "durations": {"response": [], "connect": [], "session": []},
        "workers": [{"slot": 0, "seen": 0.1, "sessions": 0}, {"slot": 1, "seen": 0.1, "sessions": 0}],
        "listeners": [listener("web")] if listeners is None else listeners,
        "upstreams": [{"name": "app", "balance": "round_robin", "can_serve": True, "backends": backends}],
    }  # fmt: skip
    return _with(found, more)


def _with(found: Document, more: Document) -> Document:
    for name, value in more.items():
        place = found if name in found else found["counters"]
        assert name in place, name
        place[name] = value
    return found
