"""Configurations for what the master and its processes share: small ones, from Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gproxy import config
from gproxy.core.settings import Config

Backends = Mapping[str, str]  # a backend's name to its address


def make_config(
    upstreams: Mapping[str, Backends] | None = None,
    *,
    workers: int = 1,
    binds: Sequence[str] = ("127.0.0.1:0",),
    check: str = "{type: tcp}",
    root: str = "",
) -> Config:
    """With an upstream `app` and its backend b1 unless told otherwise; http listeners web0, web1 ... for the binds."""
    named = upstreams or {"app": {"b1": "127.0.0.1:1"}}
    first = next(iter(named))
    lines = [f"workers: {workers}", root, "listeners:"]
    lines += [f'- {{name: web{n}, mode: http, bind: "{bind}", upstream: {first}}}' for n, bind in enumerate(binds)]
    lines.append("upstreams:")
    for upstream, backends in named.items():
        entries = ", ".join(f'{{name: {name}, address: "{address}"}}' for name, address in backends.items())
        lines.append(f"  {upstream}: {{health_check: {check}, backends: [{entries}]}}")
    return config.parse("\n".join(lines), "test", {})
