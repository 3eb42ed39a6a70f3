"""TimeoutManager and what its sweeps do to sessions, on a clock that the test moves."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gproxy.timeouts import SLICE, TimeoutManager, sweep_interval
from tests.support.clock import FakeClock
from tests.support.embedded import Embedded, backend
from tests.support.loopback import End, Peer, PlayedBackend
from tests.support.poll import eventually

TIMEOUTS = "connection_idle_timeout: 60, stall_timeout: 20, half_close_timeout: 30"


class Swept:
    """Notes when it was looked at."""

    def __init__(self) -> None:
        self.looks: list[float] = []

    def sweep(self, now: float) -> None:
        self.looks.append(now)


# --- the manager -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shortest", "interval"), [(60.0, 1.0), (4.0, 1.0), (2.0, 0.5), (0.4, 0.1), (0.1, 0.05), (0.001, 0.05)]
)
def test_sweeps_are_a_quarter_of_the_shortest_timeout_apart_within_bounds(shortest: float, interval: float) -> None:
    assert sweep_interval(shortest) == pytest.approx(interval)


def test_a_sweep_looks_at_everything_once() -> None:
    clock = FakeClock(5.0)
    few, many = [Swept(), Swept()], [Swept() for _ in range(3)]
    TimeoutManager(lambda: many, few, 1.0, clock=clock).sweep()
    assert [item.looks for item in few + many] == [[5.0]] * 5


def test_many_sessions_are_swept_in_slices() -> None:
    """Others run in between, so the time is read anew; and sessions that come or go meanwhile do no harm."""
    clock = FakeClock(0.0)
    many = {Swept() for _ in range(2 * SLICE + 1)}
    all_of_them = list(many)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(1.0)
        many.clear()

    TimeoutManager(lambda: many, (), 1.0, clock=clock, pause=pause).sweep()
    assert pauses == [0, 0]
    assert sorted(item.looks[0] for item in all_of_them) == [0.0] * SLICE + [1.0] * SLICE + [2.0]


def test_it_sweeps_again_and_again_and_tells_how_late_the_hub_is() -> None:
    clock = FakeClock(0.0)
    lags: list[float] = []
    swept = Swept()
    late = iter([0.0, 0.25, 0.0])

    def pause(seconds: float) -> None:
        gevent.sleep(0)
        clock.advance(seconds + next(late, 0.0))

    manager = TimeoutManager(lambda: [], [swept], 1.0, on_lag=lags.append, clock=clock, pause=pause)
    manager.start()
    eventually(lambda: len(swept.looks) >= 3)
    manager.stop()
    assert lags[:3] == [0.0, 0.25, 0.0]
    assert swept.looks[:3] == [1.0, 2.25, 3.25]


def test_stopped_it_sweeps_no_more() -> None:
    swept = Swept()
    manager = TimeoutManager(lambda: [], [swept], 1.0, pause=lambda _seconds: gevent.sleep(0))
    manager.start()
    eventually(lambda: swept.looks)
    manager.stop()
    gevent.sleep(0)
    looks = len(swept.looks)
    for _ in range(5):
        gevent.sleep(0)
    assert len(swept.looks) == looks


def test_one_whose_sweep_fails_keeps_nobody_else_from_being_swept(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Swept):
        def sweep(self, now: float) -> None:
            super().sweep(now)
            raise ZeroDivisionError("a defect")

    few, many = [Broken(), Swept()], [Broken(), Swept()]
    TimeoutManager(lambda: many, few, 1.0, clock=FakeClock(5.0)).sweep()
    assert few[1].looks == many[1].looks == [5.0]
    assert [bool(record.exc_info) for record in caplog.records] == [True, True]


def test_it_may_be_stopped_before_it_has_started() -> None:
    TimeoutManager(lambda: [], (), 1.0).stop()
    assert repr(TimeoutManager(lambda: [], (), 0.5)) == "<TimeoutManager every 0.5 s>"


# --- sessions --------------------------------------------------------------------------


class Bench:
    """A proxy with one session, whose time stands still."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.played = PlayedBackend()
        self.proxy = Embedded(backend(self.played), upstream=TIMEOUTS, clock=self.clock)
        self.proxy.worker.start()
        self.client = self.proxy.connect()
        self.server = self.played.accept()
        eventually(lambda: self.proxy.sessions and self.proxy.sessions[0]._relay)

    @property
    def relay(self) -> Any:
        return self.proxy.sessions[0]._relay

    def after(self, seconds: float) -> None:
        """Let time pass, a sweep each second."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.sweep()

    def sweep(self) -> None:
        self.proxy.worker.timeouts.sweep()

    @property
    def open(self) -> bool:
        return bool(self.proxy.sessions)

    def talk(self) -> None:
        self.client.send(b"ask")
        assert self.server.receive(3) == b"ask"

    def close(self) -> None:
        self.proxy.__exit__()
        self.played.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_an_idle_session_is_ended_with_fin(bench: Bench) -> None:
    bench.talk()
    bench.sweep()
    bench.after(59)
    assert bench.open
    bench.after(1)
    assert bench.client.rest() == bench.server.rest() == (b"", End.FIN)
    assert bench.proxy.codes() == ["cD"]


@pytest.mark.parametrize("speaker", ["client", "backend"])
def test_a_byte_either_way_keeps_a_session(bench: Bench, speaker: str) -> None:
    source, sink = (bench.client, bench.server)[:: 1 if speaker == "client" else -1]
    for _ in range(5):
        bench.after(59)
        source.send(b"x")
        assert sink.receive(1) == b"x"
        bench.sweep()
        assert bench.open


def test_a_session_from_its_start_has_the_whole_time(bench: Bench) -> None:
    bench.after(59)
    assert bench.open
    bench.after(1)
    assert bench.proxy.codes() == ["cD"]


def fill(peer: Peer) -> Any:
    """Send, aside, more than all buffers on the way take."""
    return gevent.spawn(peer.send, random.Random(1).randbytes(64 << 20))


@pytest.mark.parametrize(("stalled", "code"), [("backend", "sD"), ("client", "cD")])
def test_a_peer_that_takes_no_more_is_ended_with_rst(bench: Bench, stalled: str, code: str) -> None:
    source, sink = (bench.client, bench.server)[:: 1 if stalled == "backend" else -1]
    flow = bench.relay.up if stalled == "backend" else bench.relay.down
    sending = fill(source)
    seen: list[int] = []

    def stuck() -> bool:
        seen.append(flow.received)
        return bool(flow.held) and seen[-10:] == [flow.received] * 10

    eventually(stuck)
    bench.sweep()
    bench.after(19)
    assert bench.open
    bench.after(1)
    assert bench.proxy.codes() == [code]
    assert sink.rest()[1] is End.RESET
    sending.join()
    assert isinstance(sending.exception, ConnectionError)


def test_a_slow_reader_is_no_stalled_one(bench: Bench) -> None:
    sending = fill(bench.client)
    eventually(lambda: bench.relay.up.held)
    for _ in range(5):
        bench.after(19)
        delivered = bench.relay.up.delivered
        while bench.relay.up.delivered == delivered:
            bench.server.receive(1 << 20)
        bench.sweep()
        assert bench.open
    sending.kill()


UPLOAD = random.Random(2).randbytes(384 << 10)


def upload_and_reset(bench: Bench) -> None:
    """All of it is in gproxy's socket or the backend's, which takes little, when the client resets."""
    bench.server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    bench.client.send(UPLOAD)
    bench.client.wait_acknowledged()
    eventually(lambda: bench.relay.up.received == len(UPLOAD) and not bench.relay.up.held)
    bench.client.reset()
    eventually(lambda: bench.relay.aborting)
    left = [0]

    def stuck() -> bool:
        left.append(bench.relay.unconfirmed(bench.relay.up))
        return left[-10:] == [left[-1]] * 10

    eventually(stuck)
    assert left[-1]
    bench.sweep()


def test_bytes_before_a_reset_reach_a_slow_reader_however_long_the_client_heard_nothing(bench: Bench) -> None:
    bench.after(30)  # nothing comes down, for longer than stall_timeout
    upload_and_reset(bench)
    read = b""
    for _ in range(3):
        bench.after(19)
        left = bench.relay.unconfirmed(bench.relay.up)
        while bench.relay.unconfirmed(bench.relay.up) == left:
            read += bench.server.receive(16 << 10)
        bench.sweep()
        assert bench.open
    rest, end = bench.server.rest()
    assert read + rest == UPLOAD
    assert end is End.RESET
    assert bench.proxy.codes() == ["CD"]


def test_a_backend_that_takes_nothing_after_a_reset_is_ended_under_the_reset_s_code(bench: Bench) -> None:
    upload_and_reset(bench)
    bench.after(19)
    assert bench.open
    bench.after(1)
    assert bench.proxy.codes() == ["CD"]
    assert bench.server.rest()[1] is End.RESET


def test_a_client_that_has_finished_waits_so_long_for_the_rest(bench: Bench) -> None:
    bench.talk()
    bench.client.finish()
    assert bench.server.rest() == (b"", End.FIN)
    bench.sweep()
    bench.after(29)
    assert bench.open
    bench.after(1)
    assert bench.proxy.codes() == ["sL"]
    assert bench.client.rest() == (b"", End.FIN)


def test_a_backend_that_has_finished_waits_so_long_for_the_rest(bench: Bench) -> None:
    bench.talk()
    bench.server.finish()
    assert bench.client.rest() == (b"", End.FIN)
    bench.sweep()
    bench.after(29)
    assert bench.open
    bench.after(1)
    assert bench.proxy.codes() == ["cL"]
    assert bench.server.rest() == (b"", End.FIN)


@pytest.mark.parametrize("finisher", ["client", "backend"])
def test_the_time_before_a_fin_does_not_count_against_the_rest(bench: Bench, finisher: str) -> None:
    source, sink = (bench.client, bench.server)[:: 1 if finisher == "client" else -1]
    bench.talk()
    bench.after(50)  # longer than half_close_timeout, and not yet idle
    source.finish()
    assert sink.rest() == (b"", End.FIN)
    bench.after(29)
    assert bench.open
    sink.send(b"the rest")
    assert source.receive(8) == b"the rest"


def test_a_download_after_the_client_s_fin_takes_as_long_as_it_takes(bench: Bench) -> None:
    bench.client.finish()
    assert bench.server.rest() == (b"", End.FIN)
    for _ in range(10):
        bench.after(29)
        bench.server.send(b"piece")
        assert bench.client.receive(5) == b"piece"
        bench.sweep()
        assert bench.open
    bench.server.close()
    assert bench.client.rest() == (b"", End.FIN)
    assert bench.proxy.codes() == ["--"]


def test_a_listener_s_own_timeout_counts() -> None:
    clock = FakeClock()
    with (
        PlayedBackend() as played,
        Embedded(backend(played), upstream=TIMEOUTS, listener="connection_idle_timeout: 5", clock=clock) as proxy,
    ):
        proxy.connect()
        played.accept()
        clock.advance(4.9)
        proxy.worker.timeouts.sweep()
        assert proxy.sessions
        clock.advance(0.1)
        proxy.worker.timeouts.sweep()
        assert proxy.codes() == ["cD"]


def test_sweeps_bring_the_byte_counters_up_to_date(bench: Bench) -> None:
    bench.talk()
    bench.sweep()
    counters = bench.proxy.worker.metrics.snapshot().counters
    assert (counters["bytes_in"], counters["bytes_out"]) == (3, 0)
    bench.talk()
    bench.sweep()
    counters = bench.proxy.worker.metrics.snapshot().counters
    assert (counters["bytes_in"], counters["bytes_transferred_total"]) == (6, 6)
