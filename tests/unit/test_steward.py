"""The steward checks for all workers, tells them through the board, and reports to StatsD."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import gevent
import pytest

from gproxy.core.health import Administrative, Operational
from gproxy.metrics import Slot
from gproxy.shared import Shared
from gproxy.steward import Steward
from tests.support.configs import make_config
from tests.support.loopback import PlayedBackend
from tests.support.poll import eventually

CHECK = "{type: tcp, interval: 3600, fast_interval: 3600, timeout: 5}"

Make = Callable[..., tuple[Steward, Shared]]


class Daemon:
    """A StatsD that only listens."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.root = f"statsd: {{host: 127.0.0.1, port: {self._socket.getsockname()[1]}, prefix: g}}"

    def lines(self) -> list[str]:
        """All that have arrived; on loopback they are there when they have been sent."""
        lines: list[str] = []
        with suppress(BlockingIOError):
            while True:
                lines += self._socket.recv(65536).decode().splitlines()
        return lines

    def heard(self, name: str) -> list[str]:
        """The values of one metric."""
        return [line.partition(":")[2] for line in self.lines() if line.startswith(f"g.{name}:")]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.close()


@pytest.fixture
def make() -> Iterator[Make]:
    """A steward of an upstream `app` with these backends, and what it shares."""
    made: list[Steward] = []

    def make(
        *backends: PlayedBackend | str,
        root: str = "",
        known: Callable[[Shared], object] = lambda _: None,
        check: str = CHECK,
        earlier: tuple[Shared, ...] = (),
    ) -> tuple[Steward, Shared]:
        addresses = {f"b{n}": b if isinstance(b, str) else b.address for n, b in enumerate(backends, 1)}
        config = make_config({"app": addresses}, root=root, check=check)
        shared = Shared(config)
        known(shared)
        made.append(Steward(config, shared, earlier))
        return made[-1], shared

    yield make
    for steward in made:
        steward.stop()


def test_its_first_round_tells_of_everybody(make: Make, played: PlayedBackend) -> None:
    steward, shared = make(played, "127.0.0.1:1")
    version = shared.version
    assert not shared.checked
    steward.start()
    assert shared.checked
    assert shared.version != version
    assert shared.line("app", "b1").operational is Operational.UP
    assert shared.line("app", "b2").operational is Operational.DOWN


def test_its_word_on_health_is_in_the_total_at_once(make: Make, played: PlayedBackend) -> None:
    steward, shared = make(played, "127.0.0.1:1")
    steward.start()
    total = shared.total()
    assert [total.backend("app", name).healthy for name in ("b1", "b2")] == [1, 0]


def test_what_is_known_is_not_checked_again_first_nor_told_as_news(
    make: Make, played: PlayedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def known(shared: Shared) -> None:
        shared.line("app", "b1").operational = Operational.DOWN

    steward, shared = make(played, known=known)
    steward.start()
    assert shared.checked
    assert not played.waiting()
    assert shared.line("app", "b1").operational is Operational.DOWN
    assert [message for message in caplog.messages if "app" in message] == []


def test_what_an_operator_wants_is_left_alone(make: Make, played: PlayedBackend) -> None:
    def known(shared: Shared) -> None:
        shared.line("app", "b1").administrative = Administrative.MAINT
        shared.line("app", "b1").weight = 5

    steward, shared = make(played, known=known)
    steward.start()
    line = shared.line("app", "b1")
    assert (line.administrative, line.weight, line.operational) == (Administrative.MAINT, 5, Operational.UP)


def test_unchecked_backends_make_nobody_wait(make: Make) -> None:
    steward, shared = make("127.0.0.1:1", check="{type: none}")
    steward.start()
    assert shared.checked
    assert shared.line("app", "b1").operational is Operational.UNKNOWN
    assert shared.total().backend("app", "b1").healthy == 1


def test_it_dials_ahead_for_nobody(played: PlayedBackend) -> None:
    config = make_config({"app": {"b1": played.address}}, check="{type: none}, pool: {preconnect: 2}")
    assert config.upstreams[0].pool.preconnect == 2
    steward = Steward(config, Shared(config))
    steward.start()
    gevent.idle()
    assert not played.waiting()
    steward.stop()


def test_it_reports_what_all_workers_have_counted(make: Make, daemon: Daemon) -> None:
    steward, shared = make("127.0.0.1:1", root=daemon.root)
    steward.report()
    shared.row(0).count(Slot.BYTES_IN, 5)
    steward.stop()
    assert daemon.heard("bytes_in") == ["5|c"]


def test_before_it_is_asked_to_it_reports_nothing(make: Make, daemon: Daemon) -> None:
    earlier = Shared(make_config())
    steward, _ = make("127.0.0.1:1", root=daemon.root, earlier=(earlier,))
    steward.over(earlier)
    steward.stop()
    assert daemon.heard("bytes_in") == []


def test_names_that_do_not_live_on_are_told_before_they_go(make: Make, daemon: Daemon) -> None:
    earlier = Shared(make_config({"app": {"gone": "127.0.0.1:9"}}))
    steward, _ = make("127.0.0.1:1", root=daemon.root, earlier=(earlier,))
    steward.report()
    earlier.row(0).backend("app", "gone").connects += 3
    earlier.row(0).count(Slot.BYTES_IN, 5)
    steward.over(earlier)
    assert daemon.heard("upstream.app.backend.gone.connects") == ["3|c"]
    steward.stop()
    assert daemon.heard("bytes_in") == ["0|c"]


def test_a_retired_one_reports_growth_alone(make: Make, daemon: Daemon) -> None:
    steward, shared = make("127.0.0.1:1", root=daemon.root)
    steward.report()
    steward.retire()
    shared.row(0).count(Slot.BYTES_IN, 5)
    shared.row(0).count(Slot.ACTIVE, 2)
    steward.stop()
    lines = daemon.lines()
    assert "g.bytes_in:5|c" in lines
    assert [line for line in lines if line.endswith("|g")] == []


def test_without_statsd_it_has_nobody_to_report_to(make: Make) -> None:
    earlier = Shared(make_config())
    steward, shared = make("127.0.0.1:1", earlier=(earlier,))
    earlier.row(0).count(Slot.BYTES_IN, 5)
    steward.report()
    steward.retire()
    steward.over(earlier)
    assert shared.total().view[Slot.BYTES_IN] == 5


def test_a_flip_is_told_to_the_workers_and_said(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    played = PlayedBackend()
    check = "{type: tcp, interval: 0.02, fast_interval: 0.02, timeout: 5, fall: 1, rise: 1}"
    steward, shared = make(played, check=check)
    steward.start()
    line, version = shared.line("app", "b1"), shared.version
    assert line.operational is Operational.UP
    played.close()
    eventually(lambda: line.operational is Operational.DOWN)
    assert shared.version != version
    assert "upstream app: no backend can serve" in caplog.messages
