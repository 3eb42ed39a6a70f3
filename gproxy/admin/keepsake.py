"""Keepsake: bytes that outlive the process that wrote them, in memory that the master has made before it forked."""

from __future__ import annotations

import mmap
import struct
from typing import Final

SIZE: Final = 4 * 1024 * 1024  # bytes; pages that nobody has written to are none

_LENGTH: Final = struct.Struct("q")


class Keepsake:
    """One process writes at a time. Whoever is killed while it writes leaves nothing, and not a half."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, SIZE)

    def write(self, data: bytes) -> None:
        """In the place of what there was. What does not fit is not kept."""
        if len(data) > SIZE - _LENGTH.size:
            data = b""
        self._map[: _LENGTH.size] = _LENGTH.pack(0)
        self._map[_LENGTH.size : _LENGTH.size + len(data)] = data
        self._map[: _LENGTH.size] = _LENGTH.pack(len(data))

    def read(self) -> bytes:
        """Empty where nobody has written."""
        (length,) = _LENGTH.unpack(self._map[: _LENGTH.size])
        return self._map[_LENGTH.size : _LENGTH.size + length]

    def __repr__(self) -> str:
        return f"<Keepsake {len(self.read())} of {SIZE} bytes>"
