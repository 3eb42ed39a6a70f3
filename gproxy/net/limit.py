"""Limit: so many sessions at most, of one listener or of all of them, here and in other processes."""

from __future__ import annotations

from collections.abc import Callable

UNLIMITED = 2**31

Elsewhere = Callable[[int], int]  # what the other processes hold in a slot


class Limit:
    """`most` counts the sessions of all processes, `room` those of this one alone.

    `view[slot]` shows the others how many there are here.
    """

    __slots__ = ("active", "elsewhere", "most", "room", "slot", "view")

    def __init__(
        self,
        most: int,
        room: int = UNLIMITED,
        *,
        view: memoryview[int] | None = None,
        slot: int = 0,
        elsewhere: Elsewhere | None = None,
    ):
        """`elsewhere` is None where there are no other processes."""
        self.active = 0
        self.most = most
        self.room = room
        self.view = memoryview(bytearray(8)).cast("q") if view is None else view
        self.slot = slot
        self.elsewhere = elsewhere

    def enter(self) -> None:
        self.active += 1
        self.view[self.slot] = self.active

    def leave(self) -> None:
        self.active -= 1
        self.view[self.slot] = self.active

    def taken(self) -> int:
        """Sessions of all processes."""
        return self.active if self.elsewhere is None else self.active + self.elsewhere(self.slot)

    def reached(self) -> bool:
        return self.taken() >= self.most

    def out_of_room(self) -> bool:
        """Whether this process can hold no more."""
        return self.active >= self.room

    def changes_unseen(self) -> bool:
        """Whether there may be room again without a session's end here: nobody tells of that."""
        return self.elsewhere is not None

    def __repr__(self) -> str:
        return f"<Limit {self.taken()} of {self.most}, here {self.active} of {min(self.most, self.room)}>"
