"""The processes of one configuration: forked, buried, and replaced in good time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from gproxy.channel import Channel
from gproxy.generation import STEWARD, Child, Generation
from gproxy.metrics import Slot
from gproxy.shared import Shared
from tests.support.configs import make_config
from tests.support.loopback import descriptors

NOW = 1000.0

Work = Callable[[Generation, int, Channel], None]
Make = Callable[..., Generation]


@pytest.fixture
def make() -> Iterator[Make]:
    """Generations whose children run `work` and end; by default they wait for an order."""
    made: list[Generation] = []

    def make(workers: int = 1, work: Work = lambda _generation, _slot, channel: wait_for_order(channel)) -> Generation:
        def in_child(generation: Generation, slot: int, channel: Channel, _stack: int) -> NoReturn:
            try:
                work(generation, slot, channel)
            finally:
                os._exit(0)

        config = make_config(workers=workers)
        made.append(Generation(1, config, Shared(config), in_child, until=NOW))
        return made[-1]

    yield make
    for generation in made:
        generation.kill()
        for child in list(generation.children.values()):
            end(generation, child)


def wait_for_order(channel: Channel) -> None:
    os.set_blocking(channel.fileno(), True)
    os.read(channel.fileno(), 1000)


def end(generation: Generation, child: Child) -> None:
    """Reap it and bury it."""
    os.waitpid(child.pid, 0)
    generation.bury(child)


def test_every_slot_gets_a_process_and_the_steward_s_is_the_first(make: Make) -> None:
    generation = make(workers=2)
    generation.start()
    assert list(generation.children) == [STEWARD, 0, 1]
    assert [child.name for child in generation.children.values()] == ["steward", "worker 0", "worker 1"]
    assert generation.steward is generation.children[STEWARD]
    assert generation.workers() == [generation.children[0], generation.children[1]]
    assert len({child.pid for child in generation.children.values()} | {os.getpid()}) == 4


def test_a_child_is_told_its_slot_and_has_its_end_of_the_channel(make: Make) -> None:
    generation = make(workers=2, work=lambda _, slot, channel: channel.send(slot=slot))
    generation.start()
    for slot, child in list(generation.children.items()):
        os.waitpid(child.pid, 0)
        assert child.channel.receive() == [{"slot": slot}]
        assert child.channel.over
        generation.bury(child)


def test_the_end_of_a_child_s_channel_is_seen_by_it(make: Make) -> None:
    """It has no copy of its own of the master's end."""
    generation = make()
    generation.start()
    child = generation.children[0]
    child.channel.close()
    assert os.waitpid(child.pid, 0)[1] == 0
    generation.bury(child)


def test_it_is_ready_when_all_are(make: Make) -> None:
    generation = make(workers=2)
    generation.start()
    for child in generation.children.values():
        assert not generation.ready
        child.ready = True
    assert generation.ready
    generation.children[0].channel.send(do="stop")
    end(generation, generation.children[0])
    assert not generation.ready


def test_orders_go_to_all_workers_and_not_to_the_steward(make: Make) -> None:
    generation = make(workers=2)
    generation.start()
    generation.tell(do="stop")
    for child in generation.workers():
        end(generation, child)
    assert list(generation.children) == [STEWARD]
    assert os.waitpid(generation.children[STEWARD].pid, os.WNOHANG) == (0, 0)


def test_killed_are_all(make: Make) -> None:
    generation = make(workers=2)
    generation.start()
    generation.kill()
    for child in list(generation.children.values()):
        assert child.killed
        assert os.WTERMSIG(os.waitpid(child.pid, 0)[1]) == signal.SIGKILL
        generation.bury(child)


def test_signals_wait_until_a_child_has_handlers_of_its_own_and_go_on_here(make: Make) -> None:
    def work(_generation: Generation, _slot: int, channel: Channel) -> None:
        channel.send(blocked=signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    generation = make(work=work)
    generation.fork(0)
    os.waitpid(generation.children[0].pid, 0)
    assert generation.children[0].channel.receive() == [{"blocked": True}]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    generation.bury(generation.children[0])


def test_the_dead_leave_no_descriptor_and_no_gauge(make: Make) -> None:
    before = descriptors(), len(os.listdir("/proc/self/fd"))
    generation = make(work=lambda generation, slot, _: generation.shared.row(slot).count(Slot.ACTIVE, 3))
    generation.fork(0)
    os.waitpid(generation.children[0].pid, 0)
    assert generation.shared.active() == 3
    generation.bury(generation.children[0])
    assert generation.shared.active() == 0
    assert (descriptors(), len(os.listdir("/proc/self/fd"))) == before
    assert generation.children == {}


def test_what_a_dead_steward_said_of_backends_stays(make: Make) -> None:
    def work(generation: Generation, _slot: int, _channel: Channel) -> None:
        generation.shared.steward_row().backend("app", "b1").healthy = 1

    generation = make(work=work)
    generation.fork(STEWARD)
    end(generation, generation.children[STEWARD])
    assert generation.shared.total().backend("app", "b1").healthy == 1


# --- vacancies ------------------------------------------------------------------------


def dead(slot: int = 0, *, born: float = NOW, ready: bool = True) -> Child:
    """One that is not about any more."""
    channel, other = Channel.pair()
    channel.close()
    other.close()
    return Child(0, slot, channel, -1, born, ready)


def delays(generation: Generation, count: int, now: float = NOW) -> list[float]:
    """Of so many that did not last."""
    return [generation.vacate(dead(born=now), now) for _ in range(count)]


def test_the_next_one_starts_at_once_and_those_after_it_later_and_later(make: Make) -> None:
    assert delays(make(), 10) == [0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_after_days_of_failures_it_is_still_tried(make: Make) -> None:
    assert delays(make(), 5000)[-1] == 30


def test_after_one_that_lasted_the_next_one_starts_at_once(make: Make) -> None:
    generation = make()
    delays(generation, 5)
    assert generation.vacate(dead(born=NOW - 10), NOW) == 0
    assert delays(generation, 3) == [0, 0.5, 1]


def test_one_that_died_too_early_did_not_last(make: Make) -> None:
    generation = make()
    delays(generation, 1)
    assert generation.vacate(dead(born=NOW - 9.9), NOW) == 0.5


def test_one_that_was_never_ready_did_not_last(make: Make) -> None:
    generation = make()
    delays(generation, 1)
    assert generation.vacate(dead(born=NOW - 60, ready=False), NOW) == 0.5


def test_each_slot_has_a_patience_of_its_own(make: Make) -> None:
    generation = make(workers=2)
    delays(generation, 5)
    assert generation.vacate(dead(1), NOW) == generation.vacate(dead(STEWARD), NOW) == 0


def test_a_vacancy_is_filled_when_it_is_due(make: Make) -> None:
    generation = make(workers=2)
    generation.start()
    for _ in range(2):  # the second one did not last
        child = generation.children[0]
        child.channel.send(do="stop")
        end(generation, child)
        delay = generation.vacate(child, NOW)
        generation.fill(NOW)
        if delay:
            assert 0 not in generation.children
    generation.fill(NOW + 0.4)
    assert 0 not in generation.children
    others = {slot: child.pid for slot, child in generation.children.items()}
    generation.fill(NOW + 0.5)
    assert {slot: child.pid for slot, child in generation.children.items() if slot in others} == others
    assert set(generation.children) == {STEWARD, 0, 1}


def test_where_there_can_be_no_process_it_is_tried_again_later(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    generation = make()
    generation.fork(STEWARD)
    delays(generation, 1)

    def fail() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = descriptors(), len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr("os.fork", fail)
        generation.fill(NOW)
    assert 0 not in generation.children
    assert (descriptors(), len(os.listdir("/proc/self/fd"))) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    (message,) = caplog.messages
    assert message == "worker 0 could not be started: Resource temporarily unavailable; tried again in 0.5 s"
    generation.fill(NOW + 0.4)
    assert 0 not in generation.children
    generation.fill(NOW + 0.5)
    assert 0 in generation.children


def test_repr_tells_the_state(make: Make) -> None:
    generation = make(workers=2)
    generation.fork(STEWARD)
    generation.fork(0)
    assert repr(generation) == "<Generation 1 1 of 2 workers>"
