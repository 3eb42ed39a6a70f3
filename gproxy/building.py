"""What a Worker and the Steward build alike of a configuration: the checks of its backends."""

from __future__ import annotations

import time
from _socket import socket as Socket
from collections.abc import Callable, Iterable
from functools import partial

from gproxy.core.settings import Config
from gproxy.health import Checked
from gproxy.net.dial import Dial, dial, dial_any
from gproxy.probes import ProbeTarget
from gproxy.upstream import Backend, Upstream

Flipped = Callable[[Upstream, Backend, str], None]


def longest_check(config: Config) -> float:
    """Seconds that one round of all checks may take, side by side."""
    return max((u.health_check.timeout for u in config.upstreams), default=0.0) + 0.5


def checks_of(
    upstreams: Iterable[Upstream],
    flipped: Flipped,
    *,
    dial: Dial = dial,
    clock: Callable[[], float] = time.monotonic,
) -> list[Checked]:
    """A check of each backend; `flipped` is told of each change, with its reason."""
    return [_check(u, b, flipped, dial, clock) for u in upstreams for b in u.backends]


def _check(upstream: Upstream, backend: Backend, flipped: Flipped, dial: Dial, clock: Callable[[], float]) -> Checked:
    settings = upstream.settings.health_check

    def connect(timeout: float) -> Socket:
        endpoints = backend.endpoints
        if settings.port is not None:
            endpoints = tuple(e.with_port(settings.port) for e in endpoints)
        return dial_any(endpoints, timeout, dial)

    lender = backend if settings.use_pool and upstream.shares else None
    target = ProbeTarget(settings, settings.host or _host_of(backend), connect, lender, clock)
    return Checked(backend.health, target, partial(flipped, upstream, backend))


def _host_of(backend: Backend) -> str:
    """What a check names as Host where the configuration names none."""
    address = backend.settings.address
    return "localhost" if address.is_unix else str(address)
