"""A limit's numbers: ours, the others', and when it is nearly reached."""

from __future__ import annotations

import pytest

from gproxy.net.limit import Limit


class Others:
    """The other processes' rows."""

    def __init__(self, count: int = 0):
        self.count = count
        self.asked: list[int] = []

    def __call__(self, slot: int) -> int:
        self.asked.append(slot)
        return self.count


def filled(limit: Limit, count: int) -> Limit:
    for _ in range(count):
        limit.enter()
    return limit


@pytest.mark.parametrize(("ours", "others", "reached"), [(9, 0, False), (10, 0, True), (4, 5, False), (4, 6, True)])
def test_it_counts_the_sessions_of_all_processes(ours: int, others: int, reached: bool) -> None:
    assert filled(Limit(10, elsewhere=Others(others)), ours).reached() is reached


def test_a_session_s_end_makes_room() -> None:
    limit = filled(Limit(1), 1)
    assert limit.reached()
    limit.leave()
    assert not limit.reached()


def test_others_are_shown_our_number_and_asked_for_theirs_in_the_same_slot() -> None:
    view, others = memoryview(bytearray(32)).cast("q"), Others(3)
    limit = filled(Limit(10, view=view, slot=2, elsewhere=others), 2)
    limit.leave()
    assert (view[2], limit.taken(), others.asked) == (1, 4, [2])


@pytest.mark.parametrize(
    ("most", "room", "near"),
    [(100, 1000, 95), (1000, 100, 95), (10000, 10**6, 9500), (10, 99, 9), (2, 9, 1), (1, 9, 0)],
)
def test_near_is_a_twentieth_below_the_limit_or_the_room(most: int, room: int, near: int) -> None:
    limit = filled(Limit(most, room), near)
    assert limit.nearly_reached()
    limit.leave()
    assert not limit.nearly_reached()


@pytest.mark.parametrize(("others", "near"), [(55, True), (54, False)])
def test_others_bring_it_near(others: int, near: bool) -> None:
    assert filled(Limit(100, elsewhere=Others(others)), 40).nearly_reached() is near


def test_room_is_for_this_process_alone() -> None:
    limit = filled(Limit(10, room=5, elsewhere=Others(5)), 4)
    assert not limit.out_of_room()
    limit.enter()
    assert limit.out_of_room()


def test_relief_is_asked_for_when_it_is_near_and_for_a_twentieth() -> None:
    asked: list[int] = []
    limit = filled(Limit(100, relieve=asked.append), 94)
    limit.relieve()
    assert asked == []
    limit.enter()
    limit.relieve()
    assert asked == [5]


def test_repr_tells_the_state() -> None:
    assert repr(filled(Limit(10, room=5, elsewhere=Others(3)), 2)) == "<Limit 5 of 10, here 2 of 5>"
