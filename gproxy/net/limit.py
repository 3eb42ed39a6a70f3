"""Limit: so many sessions at most, of one listener or of all of them, here and in other processes."""

from __future__ import annotations

from collections.abc import Callable

UNLIMITED = 2**31

Elsewhere = Callable[[int], int]  # what the other processes hold in a slot


class Limit:
    """`most` counts the sessions of all processes, `room` those of this one alone.

    `view[slot]` shows the others how many there are here. `relieve(n)` asks about n clients to go who want nothing
    now: it is called from a twentieth below the limit on, so that those who come then find room.
    """

    __slots__ = ("_others_near", "_relieve", "active", "elsewhere", "margin", "most", "near", "room", "slot", "view")

    def __init__(
        self,
        most: int,
        room: int = UNLIMITED,
        *,
        view: memoryview[int] | None = None,
        slot: int = 0,
        elsewhere: Elsewhere | None = None,
        relieve: Callable[[int], object] | None = None,
    ):
        """`elsewhere` is None where there are no other processes."""
        self.active = 0
        self.most = most
        self.room = room
        self.view = memoryview(bytearray(8)).cast("q") if view is None else view
        self.slot = slot
        self.elsewhere = elsewhere
        self._relieve = relieve
        self.margin = max(1, min(most, room) // 20)
        self.near = min(most, room) - self.margin  # of ours alone
        self._others_near = most - self.margin

    def enter(self) -> None:
        self.active += 1
        self.view[self.slot] = self.active

    def leave(self) -> None:
        self.active -= 1
        self.view[self.slot] = self.active

    def taken(self) -> int:
        """Sessions of all processes."""
        return self.active if self.elsewhere is None else self.active + self.elsewhere(self.slot)

    def nearly_reached(self) -> bool:
        return self.active >= self.near or (self.elsewhere is not None and self.taken() >= self._others_near)

    def reached(self) -> bool:
        return self.taken() >= self.most

    def out_of_room(self) -> bool:
        """Whether this process can hold no more."""
        return self.active >= self.room

    def changes_unseen(self) -> bool:
        """Whether there may be room again without a session's end here: nobody tells of that."""
        return self.elsewhere is not None or self._relieve is not None

    def relieve(self) -> None:
        """Make room if there is little left."""
        if self._relieve is not None and self.nearly_reached():
            self._relieve(self.margin)

    def told(self) -> str:
        """For the log."""
        if self.out_of_room():
            return f"this process has descriptors for {self.room} sessions"
        return f"{self.taken()} of {self.most} sessions, of which this process has {self.active}"

    def __repr__(self) -> str:
        return f"<Limit {self.taken()} of {self.most}, here {self.active} of {min(self.most, self.room)}>"
