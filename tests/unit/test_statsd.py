"""The reporter against a real UDP socket on loopback."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gproxy.core.settings import StatsdSettings
from gproxy.metrics import MetricsCollector, Slot, Snapshot
from gproxy.statsd import Counted, StatsdReporter
from tests.support.poll import eventually

LOGGER = "gproxy.statsd"

Make = Callable[..., StatsdReporter]


class Daemon:
    """A StatsD that only listens. It may leave its port and come back to it."""

    def __init__(self, family: int = socket.AF_INET, host: str = "127.0.0.1"):
        self._family, self._address = family, (host, 0)
        self.start()

    def start(self) -> None:
        self._socket = socket.socket(self._family, socket.SOCK_DGRAM)
        self._socket.bind(self._address)
        self._socket.setblocking(False)
        self._address = self._socket.getsockname()[:2]
        self.port = self._address[1]

    def stop(self) -> None:
        self._socket.close()

    def datagrams(self) -> list[bytes]:
        """All that have arrived; on loopback they are there when `send` returns."""
        result = []
        with suppress(BlockingIOError):
            while True:
                result.append(self._socket.recv(65536))
        return result

    def lines(self) -> list[str]:
        return b"\n".join(self.datagrams()).decode("ascii").splitlines()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.stop()


@pytest.fixture
def metrics() -> MetricsCollector:
    return MetricsCollector([("app", "b1")])


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, LOGGER)
    return caplog


@pytest.fixture
def reporter() -> Iterator[Make]:
    """Makes reporters that push every 10 s, stopped after the test."""
    made = []

    def make(port: int, metrics: Counted, *, prefix: str = "gproxy", **options: Any) -> StatsdReporter:
        settings = StatsdSettings(host=options.pop("host", "127.0.0.1"), port=port, prefix=prefix)
        made.append(StatsdReporter(settings, 10.0, metrics, **options))
        return made[-1]

    yield make
    for statsd in made:
        statsd.stop(0.05)


def test_counters_and_gauges_arrive_in_statsd_syntax(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    push = reporter(daemon.port, metrics).push
    metrics.count(Slot.BYTES_IN, 5)
    metrics.count(Slot.ACTIVE, 2)
    metrics.hub_lag(0.0123456)
    push()
    lines = daemon.lines()
    assert "gproxy.bytes_in:5|c" in lines
    assert "gproxy.active_connections_total:2|g" in lines
    assert "gproxy.hub_lag:12.345|g" in lines
    metrics.count(Slot.BYTES_IN, 7)
    push()
    assert "gproxy.bytes_in:7|c" in daemon.lines()


def test_where_another_reports_the_gauges_counters_are_pushed_alone(
    reporter: Make, daemon: Daemon, metrics: MetricsCollector
) -> None:
    statsd = reporter(daemon.port, metrics)
    statsd.gauges = False
    metrics.count(Slot.BYTES_IN, 5)
    metrics.count(Slot.ACTIVE, 2)
    metrics.session_time.record(1.0)
    statsd.push()
    lines = daemon.lines()
    assert "gproxy.bytes_in:5|c" in lines
    assert {line[-2:] for line in lines} == {"|c"}


class Several:
    """Something else that counts: what it was told and what it is asked."""

    def __init__(self) -> None:
        self.before: Snapshot | None = None
        self.count = 0

    def snapshot(self) -> Snapshot:
        self.count += 5
        return Snapshot({}, {"n": self.count}, {})

    def told(self, snapshot: Snapshot) -> None:
        self.before = snapshot


def test_who_counts_keeps_what_was_told(reporter: Make, daemon: Daemon) -> None:
    """So that another reporter can go on with it."""
    several = Several()
    for _ in range(2):
        reporter(daemon.port, several).push()
        assert daemon.lines() == ["gproxy.n:5|c"]


def test_what_did_not_leave_was_not_told(reporter: Make, daemon: Daemon) -> None:
    several = Several()
    daemon.stop()
    reporter(daemon.port, several).push()
    assert several.before is None
    daemon.start()
    reporter(daemon.port, several).push()
    assert daemon.lines() == ["gproxy.n:10|c"]


def test_datagrams_hold_at_most_1432_bytes_and_whole_lines(reporter: Make, daemon: Daemon) -> None:
    metrics = MetricsCollector([("upstream", f"backend{n}") for n in range(40)])
    reporter(daemon.port, metrics).push()
    datagrams = daemon.datagrams()
    assert max(map(len, datagrams)) <= 1432
    assert min(map(len, datagrams[:-1])) > 1300  # and they are not wasted
    lines = b"\n".join(datagrams).decode().splitlines()
    assert len(lines) == len(set(lines)) == 10 + 40 * 11
    assert all(line.startswith("gproxy.") and line[-2:] in ("|c", "|g") for line in lines)


def test_values_have_at_most_three_decimals(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    metrics.connect_time.record(0.00123)
    reporter(daemon.port, metrics).push()
    (value,) = [line.split(":")[1] for line in daemon.lines() if line.startswith("gproxy.connect_time.p50")]
    assert re.fullmatch(r"1\.\d{1,3}\|g", value)


def test_prefix_cannot_break_the_syntax(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    reporter(daemon.port, metrics, prefix="a:b.\u00e9..c").push()
    assert daemon.lines()[0].startswith("a_b._.c.active")


def test_no_prefix_means_no_dot(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    reporter(daemon.port, metrics, prefix="").push()
    assert daemon.lines()[0].startswith("active_connections_total:")


def test_ipv6(reporter: Make, metrics: MetricsCollector) -> None:
    daemon = Daemon(socket.AF_INET6, "::1")
    reporter(daemon.port, metrics, host="::1").push()
    assert daemon.lines()
    daemon.stop()


def test_pushes_once_per_interval(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    slept, proceed = [], Event()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        proceed.wait()
        proceed.clear()

    statsd = reporter(daemon.port, metrics, sleep=sleep)
    statsd.start()
    statsd.start()
    eventually(lambda: slept == [10.0], what="the first sleep")
    assert daemon.datagrams() == []
    proceed.set()
    eventually(lambda: slept == [10.0, 10.0], what="the second sleep")
    assert len(daemon.datagrams()) == 1
    statsd.stop()


def test_stop_pushes_a_last_time(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    statsd = reporter(daemon.port, metrics)
    statsd.start()
    metrics.count(Slot.CONNECTIONS_ACCEPTED)
    statsd.stop()
    assert "gproxy.connections_accepted:1|c" in daemon.lines()


def test_stop_is_bounded_when_the_resolver_hangs(reporter: Make, metrics: MetricsCollector) -> None:
    def hang(*_: object, **__: object) -> list[Any]:
        gevent.sleep(60)
        return []

    statsd = reporter(1, metrics, resolve=hang)
    started = time.monotonic()
    statsd.stop(timeout=0.05)
    assert time.monotonic() - started < 2


def test_absence_is_logged_once_and_so_is_the_return(
    reporter: Make, daemon: Daemon, metrics: MetricsCollector, log: pytest.LogCaptureFixture
) -> None:
    statsd = reporter(daemon.port, metrics)
    statsd.push()
    daemon.stop()
    for _ in range(5):
        statsd.push()
    assert [record.levelname for record in log.records] == ["WARNING"]
    assert log.messages[0].endswith("takes no metrics: [Errno 111] Connection refused")
    daemon.start()
    for _ in range(5):
        statsd.push()
    assert [record.levelname for record in log.records] == ["WARNING", "INFO"]
    assert log.messages[1] == f"statsd at 127.0.0.1:{daemon.port} takes metrics again"


def test_counters_refused_at_once_are_in_the_next_push(
    reporter: Make, daemon: Daemon, metrics: MetricsCollector
) -> None:
    statsd = reporter(daemon.port, metrics)
    daemon.stop()
    metrics.count(Slot.BYTES_OUT, 3)
    statsd.push()
    metrics.count(Slot.BYTES_OUT, 4)
    daemon.start()
    statsd.push()
    assert "gproxy.bytes_out:7|c" in daemon.lines()


def test_absent_daemon_with_many_datagrams_raises_nothing(
    reporter: Make, daemon: Daemon, log: pytest.LogCaptureFixture
) -> None:
    statsd = reporter(daemon.port, MetricsCollector([("app", f"b{n}") for n in range(100)]))
    daemon.stop()
    for _ in range(3):
        statsd.push()
    assert len(log.records) == 1
    daemon.start()


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_name_that_does_not_resolve_is_logged_once(
    reporter: Make, metrics: MetricsCollector, log: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> list[Any]:
        raise error

    statsd = reporter(8125, metrics, host="nowhere", resolve=fail)
    for _ in range(3):
        statsd.push()
    (message,) = log.messages
    assert message == f"statsd at nowhere:8125 takes no metrics: {error}"


def test_resolver_that_hangs_is_given_up(
    reporter: Make, metrics: MetricsCollector, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gproxy.statsd.RESOLVE_TIMEOUT", 0.02)
    reporter(8125, metrics, resolve=lambda *_, **__: gevent.sleep(60)).push()
    assert "could not be resolved in time" in log.text


class Dns:
    """Answers with the addresses of the moment; counts the questions."""

    def __init__(self, *addresses: tuple[str, int]):
        self.addresses = list(addresses)
        self.asked = 0

    def __call__(self, *_: object, **__: object) -> list[Any]:
        self.asked += 1
        if not self.addresses:
            raise socket.gaierror(-3, "Temporary failure")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", address) for address in self.addresses]


def test_name_is_looked_up_again_after_a_minute(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    other = Daemon()
    now, dns = [0.0], Dns(("127.0.0.1", daemon.port))
    statsd = reporter(1, metrics, host="name", resolve=dns, clock=lambda: now[0])
    statsd.push()
    dns.addresses = [("127.0.0.1", other.port)]
    now[0] = 59.9
    statsd.push()
    assert (dns.asked, len(daemon.datagrams()), len(other.datagrams())) == (1, 2, 0)
    now[0] = 60.0
    statsd.push()
    assert (dns.asked, len(daemon.datagrams()), len(other.datagrams())) == (2, 0, 1)
    statsd.stop()
    other.stop()


def test_name_is_looked_up_again_after_an_error(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    gone = Daemon()
    gone.stop()
    dns = Dns(("127.0.0.1", gone.port))
    statsd = reporter(1, metrics, host="name", resolve=dns)
    statsd.push()
    dns.addresses = [("127.0.0.1", daemon.port)]
    statsd.push()
    assert daemon.datagrams()


def test_next_address_is_tried_after_an_error(reporter: Make, daemon: Daemon, metrics: MetricsCollector) -> None:
    gone = Daemon()
    gone.stop()
    dns = Dns(("127.0.0.1", gone.port), ("127.0.0.1", daemon.port))
    statsd = reporter(1, metrics, host="localhost", resolve=dns)
    metrics.count(Slot.BYTES_IN, 9)
    statsd.push()
    statsd.push()
    assert "gproxy.bytes_in:9|c" in daemon.lines()


def test_old_address_serves_while_dns_is_away(
    reporter: Make, daemon: Daemon, metrics: MetricsCollector, log: pytest.LogCaptureFixture
) -> None:
    now, dns = [0.0], Dns(("127.0.0.1", daemon.port))
    statsd = reporter(1, metrics, host="name", resolve=dns, clock=lambda: now[0])
    statsd.push()
    dns.addresses, now[0] = [], 100.0
    statsd.push()
    assert len(daemon.datagrams()) == 2
    assert not log.records


def test_unreachable_network_is_no_exception(
    reporter: Make, metrics: MetricsCollector, log: pytest.LogCaptureFixture
) -> None:
    dns = Dns(("255.255.255.255", 8125))  # refused by connect() without SO_BROADCAST
    reporter(1, metrics, resolve=dns).push()
    assert len(log.records) == 1


def test_repr_tells_the_state(reporter: Make, metrics: MetricsCollector) -> None:
    statsd = reporter(8125, metrics, resolve=Dns())
    assert repr(statsd) == "<StatsdReporter 127.0.0.1:8125 ok>"
    statsd.push()
    assert repr(statsd) == "<StatsdReporter 127.0.0.1:8125 failing>"
