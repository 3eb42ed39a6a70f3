"""HealthMonitor, with probes that the test plays."""

from __future__ import annotations

import logging
from _socket import socket as Socket
from collections.abc import Callable

import pytest
from gevent.event import Event

from gproxy.core.health import Operational
from gproxy.core.settings import HealthCheckSettings
from gproxy.errors import DialError, DialFailure
from gproxy.health import MAX_CONCURRENT, BackendHealth, Checked, HealthMonitor
from gproxy.probes import ProbeTarget
from tests.support.clock import FakeClock
from tests.support.loopback import TIMEOUT
from tests.support.poll import eventually


def undialled(_timeout: float) -> Socket:
    raise DialError(DialFailure.REFUSED, "nobody dials here")


def checked(name: str = "b1", on_flip: Callable[[str], None] = lambda _why: None) -> Checked:
    return Checked(BackendHealth(), ProbeTarget(HealthCheckSettings(), name, undialled), on_flip)


def test_a_probe_with_a_defect_is_a_failed_check_and_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    probed: list[str] = []
    flips: list[str] = []

    def broken(target: ProbeTarget) -> None:
        probed.append(target.host)
        raise ZeroDivisionError("a defect")

    one = checked(on_flip=flips.append)
    monitor = HealthMonitor([one], probe=broken, clock=clock)
    monitor.first_round(TIMEOUT)
    assert one.health.operational is Operational.DOWN
    assert flips == ["check failed: ZeroDivisionError: a defect"]
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.exc_info

    clock.advance(monitor.tick())
    monitor.tick()
    eventually(lambda: probed == ["b1", "b1"])
    assert one.health.failures == 2


class Hanging:
    """Probes that wait until they are let go."""

    def __init__(self) -> None:
        self.go_on = Event()
        self.begun: list[str] = []

    def __call__(self, target: ProbeTarget) -> None:
        self.begun.append(target.host)
        self.go_on.wait()


def test_the_first_round_is_bounded_however_many_never_answer() -> None:
    hanging = Hanging()
    backends = [checked(f"b{n}") for n in range(MAX_CONCURRENT + 50)]
    monitor = HealthMonitor(backends, probe=hanging)
    monitor.first_round(0.01)
    assert len(hanging.begun) == MAX_CONCURRENT
    hanging.go_on.set()  # the others have their turn all the same
    eventually(lambda: all(one.health.operational is Operational.UP for one in backends))
    assert len(hanging.begun) == len(backends)
    monitor.stop()


def test_stopped_in_its_first_round_it_checks_nobody_more() -> None:
    hanging = Hanging()
    monitor = HealthMonitor([checked(f"b{n}") for n in range(MAX_CONCURRENT + 50)], probe=hanging)
    monitor.first_round(0.01)
    monitor.stop()
    eventually(lambda: not len(monitor._pool) or len(hanging.begun) > MAX_CONCURRENT)
    assert len(hanging.begun) == MAX_CONCURRENT


def known(name: str, state: Operational) -> Checked:
    """A backend of which an earlier process has told."""
    one = checked(name)
    one.health.told(state)
    return one


class Probed:
    """Probes that pass, noted."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def __call__(self, target: ProbeTarget) -> None:
        self.hosts.append(target.host)


def test_the_first_round_is_for_those_of_whom_nothing_is_known() -> None:
    probed = Probed()
    backends = [known("up", Operational.UP), checked("new"), known("down", Operational.DOWN)]
    monitor = HealthMonitor(backends, probe=probed, clock=FakeClock())
    monitor.first_round(TIMEOUT)
    assert probed.hosts == ["new"]
    assert [one.health.operational for one in backends] == [Operational.UP, Operational.UP, Operational.DOWN]


class Fixed:
    """A dice with one number."""

    def __init__(self, number: float):
        self.number = number

    def random(self) -> float:
        return self.number


@pytest.mark.parametrize("state", [Operational.UP, Operational.DOWN])
def test_the_checks_of_a_known_backend_go_on_within_an_interval(state: Operational) -> None:
    clock, probed = FakeClock(), Probed()
    monitor = HealthMonitor([known("b1", state)], probe=probed, clock=clock, rng=Fixed(0.5))
    monitor.first_round(TIMEOUT)
    due = monitor.tick()
    assert due == HealthCheckSettings().interval / 2
    clock.advance(due)
    monitor.tick()
    eventually(lambda: probed.hosts == ["b1"])


def test_known_backends_are_checked_at_moments_of_their_own() -> None:
    clock, probed = FakeClock(), Probed()
    monitor = HealthMonitor([known(f"b{n}", Operational.UP) for n in range(50)], probe=probed, clock=clock)
    monitor.first_round(TIMEOUT)
    clock.advance(HealthCheckSettings().interval / 2)
    monitor.tick()
    eventually(lambda: probed.hosts)
    assert 0 < len(probed.hosts) < 50
    monitor.stop()
