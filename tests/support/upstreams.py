"""An Upstream without a worker around it, as its configuration would make it."""

from __future__ import annotations

import random
from _socket import socket as Socket
from typing import Any

from gproxy import config
from gproxy.core.balance import make_policy
from gproxy.errors import DialError, DialFailure
from gproxy.metrics import MetricsCollector
from gproxy.net.connection import Endpoint
from gproxy.upstream import Upstream
from tests.support.clock import FakeClock

_YAML = """
listeners: [{{name: web, bind: "127.0.0.1:0", upstream: app}}]
upstreams: {{app: {{backends: [{backends}], {keys}}}}}
"""


def refuse(endpoint: Endpoint, _timeout: float) -> Socket:
    """A dial that nobody answers."""
    raise DialError(DialFailure.REFUSED, f"{endpoint}: refused")


def make_upstream(*backends: str, keys: str = "", clock: FakeClock | None = None, dial: Any = refuse) -> Upstream:
    """One with backends b1, b2 and so on, each with these keys of its own in YAML's flow style."""
    entries = [f'{{name: b{n}, address: "127.0.0.1:{n}", {own}}}' for n, own in enumerate(backends, 1)]
    settings = config.parse(_YAML.format(backends=", ".join(entries), keys=keys), "test", {}).upstreams[0]
    metrics = MetricsCollector([("app", backend.name) for backend in settings.backends])
    return Upstream(
        settings,
        metrics,
        lambda members: make_policy(settings.balance, members, random.Random(1)),
        dial=dial,
        clock=clock or FakeClock(),
    )
