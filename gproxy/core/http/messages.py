"""What the parts of an HTTP message are called here, and the error for a message that can't be used."""

from __future__ import annotations

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
