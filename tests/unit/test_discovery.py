"""NameWatcher: how often names are looked up, and what a failed look-up leads to."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from gproxy import discovery
from gproxy.core.address import Address
from gproxy.discovery import NameWatcher
from gproxy.net import background
from gproxy.net.connection import Endpoint
from gproxy.net.resolve import ResolveError
from gproxy.upstream import Upstream
from tests.support.embedded import Embedded, backend
from tests.support.loopback import TIMEOUT
from tests.support.poll import eventually

HERE = Endpoint(socket.AF_INET, ("127.0.0.1", 80))


def named(*names: str) -> Upstream:
    return Embedded(*(backend(f"{name}:80") for name in names), upstream="resolve_interval: 30").service.upstream


def replace_sleep(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], object]) -> None:
    """For the watcher alone."""
    parts = {name: getattr(gevent, name) for name in ("spawn", "joinall", "killall")}
    monkeypatch.setattr(discovery, "gevent", SimpleNamespace(**parts, sleep=sleep))


def test_a_name_that_nobody_knows_leaves_the_others_their_rhythm(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        Event().wait()

    def resolve(address: Address) -> tuple[Endpoint, ...]:
        if address.host == "unknown.test":
            raise ResolveError("unknown.test: not known")
        return (HERE,)

    replace_sleep(monkeypatch, sleep)
    watcher = NameWatcher([named("known.test", "unknown.test", "other.test")], resolve)
    watcher.first_round(TIMEOUT)
    watcher.start()
    eventually(lambda: len(naps) == 3)
    watcher.stop()
    assert sorted(naps) == [2.0, 30.0, 30.0]


def test_addresses_may_come_as_a_list() -> None:
    upstream = named("known.test")
    watcher = NameWatcher([upstream], lambda _address: [HERE])  # type: ignore[arg-type, return-value]
    watcher.first_round(TIMEOUT)
    assert upstream.backends[0].endpoints == (HERE,)


def test_a_look_up_with_a_defect_is_logged_and_the_next_one_follows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_BREATH", 0)
    replace_sleep(monkeypatch, lambda _seconds: gevent.sleep(0))
    answers = iter([RuntimeError("a defect")])

    def resolve(_address: Address) -> tuple[Endpoint, ...]:
        for error in answers:
            raise error
        return (HERE,)

    upstream = named("app.test")
    watcher = NameWatcher([upstream], resolve)
    watcher.start()
    eventually(lambda: upstream.backends[0].endpoints == (HERE,))
    watcher.stop()
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.name == "gproxy.discovery"
    assert line.exc_info
