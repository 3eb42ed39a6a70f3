"""What was worked out, kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Remembered(OrderedDict[K, T]):
    """What was worked out, by what it was worked out of; the oldest is forgotten when there are too many.

    Clients and backends send the same heads again and again, and to read them is most of the
    work of a request.
    """

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def keep(self, source: K, meaning: T) -> None:
        if len(self) >= self._most:
            self.popitem(last=False)  # a dict would look for its first item behind all that it has lost
        self[source] = meaning
