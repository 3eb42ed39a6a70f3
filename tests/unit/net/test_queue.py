"""SlotQueue: in order, nobody overtaken, and no slot lost whoever leaves."""

from __future__ import annotations

import gevent
import pytest
from gevent import GreenletExit

from gproxy.errors import QueueTimeout
from gproxy.net.queue import SlotQueue
from tests.support.poll import eventually

LONG = 10.0  # seconds; nothing waits for it


class Slots:
    """As many slots as `free`; who takes one gets a number."""

    def __init__(self, free: int = 0):
        self.free = free
        self.taken = 0

    def attempt(self) -> int | None:
        if not self.free:
            return None
        self.free -= 1
        self.taken += 1
        return self.taken

    def give_back(self, _slot: int) -> None:
        self.free += 1


def waiting(queue: SlotQueue[int], slots: Slots, count: int = 1) -> list[gevent.Greenlet]:
    """Greenlets that stand in the queue, in order."""
    before = len(queue)
    greenlets = [gevent.spawn(queue.wait, slots.attempt, slots.give_back, LONG) for _ in range(count)]
    eventually(lambda: len(queue) == before + count)
    return greenlets


def test_slots_go_out_in_the_order_of_arrival() -> None:
    queue, slots = SlotQueue[int](), Slots()
    first, second, third = waiting(queue, slots, 3)
    slots.free = 2
    queue.serve()
    assert (first.get(), second.get()) == (1, 2)
    assert len(queue) == 1
    slots.free = 1
    queue.serve()
    assert third.get() == 3
    assert len(queue) == 0


def test_a_slot_is_handed_over_before_a_later_one_can_ask() -> None:
    """`serve` takes it while it is freed; the waiter's greenlet runs later."""
    queue, slots = SlotQueue[int](), Slots()
    (waiter,) = waiting(queue, slots)
    slots.free = 1
    queue.serve()
    assert slots.attempt() is None
    assert waiter.get() == 1


def test_nothing_to_serve() -> None:
    queue, slots = SlotQueue[int](), Slots()
    queue.serve()
    (waiter,) = waiting(queue, slots)
    queue.serve()
    assert len(queue) == 1
    waiter.kill()


def test_waiting_too_long_is_an_error_and_leaves_the_queue() -> None:
    queue, slots = SlotQueue[int](), Slots()
    with pytest.raises(QueueTimeout, match=r"no connection slot within 0\.01 s"):
        queue.wait(slots.attempt, slots.give_back, 0.01)
    assert len(queue) == 0


def test_one_that_timed_out_takes_no_slot_from_the_next() -> None:
    queue, slots = SlotQueue[int](), Slots()
    hasty = gevent.spawn(queue.wait, slots.attempt, slots.give_back, 0.01)
    patient = gevent.spawn(queue.wait, slots.attempt, slots.give_back, LONG)
    with pytest.raises(QueueTimeout):
        hasty.get()
    slots.free = 1
    queue.serve()
    assert patient.get() == 1


def test_a_killed_one_takes_no_slot_from_the_next() -> None:
    queue, slots = SlotQueue[int](), Slots()
    first, second = waiting(queue, slots, 2)
    first.kill()
    assert len(queue) == 1
    slots.free = 1
    queue.serve()
    assert second.get() == 1


def test_one_killed_during_the_handover_gives_its_slot_back() -> None:
    queue, slots = SlotQueue[int](), Slots()
    (waiter,) = waiting(queue, slots)
    waiter.kill(block=False)  # it stands in the queue until its greenlet runs
    slots.free = 1
    queue.serve()
    assert slots.free == 0
    waiter.join()
    assert isinstance(waiter.value, GreenletExit)
    assert slots.free == 1


def test_a_slot_that_arrives_with_the_deadline_is_not_lost() -> None:
    queue, slots = SlotQueue[int](), Slots()
    loop = gevent.get_hub().loop
    waiter = gevent.spawn(queue.wait, slots.attempt, slots.give_back, 0.01)

    def hand_over() -> None:
        slots.free = 1
        queue.serve()

    eventually(lambda: len(queue) == 1)
    timer = loop.timer(0.01)
    timer.start(hand_over)  # in the same turn of the hub, or nearly
    waiter.join()
    eventually(lambda: slots.free or slots.taken)
    timer.close()
    assert slots.free + (waiter.value == 1) == 1


def test_who_cannot_take_what_is_free_does_not_hold_up_the_others() -> None:
    """A `picky` one has tried some backends: what there is may be only those."""
    queue, slots = SlotQueue[int](), Slots()
    picky = gevent.spawn(queue.wait, lambda: None, slots.give_back, LONG, picky=True)
    eventually(lambda: len(queue) == 1)
    (other,) = waiting(queue, slots)
    slots.free = 1
    queue.serve()
    assert other.get() == 1
    assert len(queue) == 1
    picky.kill()


def test_who_would_take_anything_is_not_overtaken() -> None:
    queue, slots = SlotQueue[int](), Slots()
    asked: list[str] = []

    def attempt(name: str) -> int | None:
        asked.append(name)
        return None

    greenlets = [gevent.spawn(queue.wait, lambda n=n: attempt(n), slots.give_back, LONG) for n in ("first", "second")]
    eventually(lambda: len(queue) == 2)
    queue.serve()
    assert asked == ["first"]
    gevent.killall(greenlets)


def test_an_attempt_that_frees_a_slot_does_not_serve_twice() -> None:
    queue, slots = SlotQueue[int](), Slots()

    def attempt() -> int | None:
        queue.serve()
        return slots.attempt()

    waiters = [gevent.spawn(queue.wait, attempt, slots.give_back, LONG) for _ in range(2)]
    eventually(lambda: len(queue) == 2)
    slots.free = 2
    queue.serve()
    assert [waiter.get() for waiter in waiters] == [1, 2]


def test_an_attempt_that_fails_leaves_the_queue_able_to_serve() -> None:
    queue, slots = SlotQueue[int](), Slots()

    def broken() -> int | None:
        raise RuntimeError("a policy's")

    waiter = gevent.spawn(queue.wait, broken, slots.give_back, LONG)
    eventually(lambda: len(queue) == 1)
    with pytest.raises(RuntimeError):
        queue.serve()
    waiter.kill()
    (other,) = waiting(queue, slots)
    slots.free = 1
    queue.serve()
    assert other.get() == 1
