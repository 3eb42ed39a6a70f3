"""Which mode an upstream serves, and what it may say in that mode.

An upstream serves the mode of the listeners that use it. Both at once is refused: what is
right to do with a used connection in one mode leaks bytes between clients in the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gproxy.config.walk import Section
from gproxy.core.settings import AllDown, Mode, Reuse

HTTP_ONLY = "only for mode: http"
TCP_ONLY = "only for mode: tcp"

# Keys by the section of an upstream that they stand in; "" is the upstream's own.
HTTP_KEYS = {"": ("retry_after", "sticky"), "health_check": ("use_pool",), "passive_health": ("server_errors",)}


@dataclass(slots=True)
class Users:
    """The lines of the first listener or route of each mode that names an upstream; 0 for none.

    A listener whose mode was refused is neither.
    """

    tcp: int = 0
    http: int = 0

    def add(self, mode: Mode | None, line: int) -> None:
        if mode is Mode.TCP:
            self.tcp = self.tcp or line
        elif mode is Mode.HTTP:
            self.http = self.http or line


def mode_defaults(users: Users) -> dict[str, dict[str, Any]]:
    """What an upstream says of itself by default, and its pool."""
    if not users.http:
        return {"upstream": {}, "pool": {}}
    return {"upstream": {"all_down": AllDown.HTTP_503}, "pool": {"reuse": Reuse.SAFE}}


def refuse_other_mode(upstream: Section, users: Users) -> None:
    if users.tcp and users.http:
        upstream.value.refuse(
            f"serves both modes, tcp on line {users.tcp} and http on line {users.http}; give each its own upstream"
        )
    elif users.tcp:
        _refuse_http(upstream, f"{HTTP_ONLY}, and line {users.tcp} uses this upstream in mode tcp")
    elif users.http and upstream.child("pool").good.get("reuse") is Reuse.QUIESCENT:
        upstream.child("pool").refuse(
            "reuse",
            f"quiescent is {TCP_ONLY}, and line {users.http} uses this upstream in mode http; did you mean 'safe'?",
        )


def _refuse_http(upstream: Section, reason: str) -> None:
    for part, keys in HTTP_KEYS.items():
        section = upstream.child(part) if part else upstream
        for key in keys:
            if key in section.where:
                section.refuse(key, reason)
    if upstream.child("pool").good.get("reuse") is Reuse.SAFE:
        upstream.child("pool").refuse("reuse", f"safe is {reason}")
    if upstream.good.get("all_down") is AllDown.HTTP_503:
        upstream.refuse("all_down", f"503 is {reason}")
    if "balance" in upstream.good and upstream.good["balance"].kind == "hash":
        upstream.refuse("balance", f"hash is {reason}")
