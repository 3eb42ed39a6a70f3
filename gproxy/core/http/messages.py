"""What the parts of an HTTP message are called here, and the error for a message that can't be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gproxy.errors import GproxyError


class Malformed(GproxyError):
    """A message that could be read in two ways or in none. `status` is what a client is answered."""

    def __init__(self, status: int, reason: str):
        self.status = status
        self.reason = reason
        super().__init__(f"{status}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """In bytes, but for `fields`, their number."""

    request_line: int = 8192  # 414
    head: int = 65536  # 431; the whole head with its request line and blank line
    fields: int = 128  # 431


class Fields:
    """The field lines of one message: as they came, in order, and by lower-case name."""

    __slots__ = ("index", "lines")

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]):
        """`lines` are pairs of a name as written and a value without white space around it."""
        self.lines = tuple(lines)
        self.index: dict[bytes, list[bytes]] = {}
        for name, value in self.lines:
            self.index.setdefault(name.lower(), []).append(value)

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field by its lower-case name."""
        values = self.index.get(name)
        return values[0] if values else None

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field by its lower-case name, in order."""
        return self.index.get(name, [])

    def tokens(self, name: bytes) -> list[bytes]:
        """The members of a list field, of all its lines, in lower case; empty ones left out (RFC 9110 5.6.1)."""
        found = []
        for value in self.index.get(name, ()):
            found += [token for part in value.lower().split(b",") if (token := part.strip(b" \t"))]
        return found

    def __repr__(self) -> str:
        return f"<Fields {[name for name, _ in self.lines]}>"


class Body(Enum):
    """How a message's body is delimited (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


class Framing(NamedTuple):
    """`length` in bytes, for LENGTH alone. A length of 0 is LENGTH too, since the field was there."""

    body: Body
    length: int = 0
