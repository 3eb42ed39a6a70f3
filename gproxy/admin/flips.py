"""Flips: what has changed last. Backends that went up or down or were ejected, and what operators asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

KEPT: Final = 100

KINDS: Final = ("up", "down", "ejected", "returned", "asked", "began", "failed")


@dataclass(frozen=True, slots=True)
class Flip:
    at: float  # monotonic seconds
    kind: str  # one of KINDS
    what: str  # in words
    upstream: str = ""  # empty where it is about no backend
    backend: str = ""
    why: str = ""
    who: str = ""  # asked for it


class Flips:
    """`number` there have been, and the last KEPT are kept."""

    def __init__(self) -> None:
        self._kept: deque[Flip] = deque(maxlen=KEPT)
        self.number = 0

    def add(self, flip: Flip) -> None:
        self._kept.append(flip)
        self.number += 1

    def after(self, number: int) -> list[dict[str, Any]]:
        """Those beyond that number, as far as they are kept; the oldest first."""
        count = min(self.number - number, len(self._kept))
        return [asdict(flip) for flip in list(self._kept)[len(self._kept) - count :]]

    def dump(self) -> Sequence[dict[str, Any]]:
        """For the next process."""
        return self.after(0)

    def load(self, dumped: Iterable[dict[str, Any]]) -> None:
        """What an earlier process has dumped, before what there is already."""
        later = list(self._kept)
        self._kept.clear()
        self.number = 0
        for flip in (*(Flip(**members) for members in dumped), *later):
            self.add(flip)

    def __repr__(self) -> str:
        return f"<Flips {self.number}, the last {self._kept[-1] if self._kept else None}>"
