"""The field lines of a message, each with what can be said of it alone.

A line that has come before is not looked at again (heads.py): what is asked of every line stands in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

FRAMING = frozenset({b"content-length", b"transfer-encoding"})  # canonical names: what says where a body ends


def canonical(name: bytes) -> bytes:
    """The name by which fields are told apart.

    CGI and WSGI read `_` in a name as `-`, so to them X_Forwarded_For is X-Forwarded-For. Hence a name is judged
    with `_` taken for `-`: what would be taken out or replaced under one spelling is so under the other.
    """
    return _known_canonical(name) if len(name) <= _LONGEST_KNOWN else _canonical(name)


def _canonical(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


_LONGEST_KNOWN = 64  # bytes: what is remembered of names stays small, whatever clients send
_known_canonical = lru_cache(maxsize=1024)(_canonical)


def is_forwarding(name: bytes) -> bool:
    """Whether a canonical name tells of the hops before: with untrusted clients, it is theirs to forge."""
    return name == b"forwarded" or name.startswith(b"x-forwarded-")


class FieldLine:
    """A name as it was written, and a value without white space around it."""

    __slots__ = ("canonical", "forwarding", "key", "name", "value", "wire")

    def __init__(self, name: bytes, value: bytes):
        self.name = name
        self.value = value
        self.key = name.lower()
        self.canonical = canonical(name)
        self.forwarding = is_forwarding(self.canonical)
        self.wire = b"%b: %b\r\n" % (name, value)  # as it is sent

    def __repr__(self) -> str:
        return f"<FieldLine {self.name!r}>"  # not its value: it may be a secret


class Fields:
    """The field lines of one message: in order, and their values by lower-case name."""

    __slots__ = ("index", "known")

    def __init__(self, lines: Iterable[tuple[bytes, bytes]] = (), known: Iterable[FieldLine] | None = None):
        """`lines` are pairs as FieldLine takes them; `known` in their place are lines that were read already."""
        self.known = tuple([FieldLine(*pair) for pair in lines] if known is None else known)
        self.index: dict[bytes, list[bytes]] = {}
        line: FieldLine
        for line in self.known:
            values = self.index.get(line.key)
            if values is None:
                self.index[line.key] = [line.value]
            else:
                values.append(line.value)

    @property
    def lines(self) -> tuple[tuple[bytes, bytes], ...]:
        """Pairs of a name as it was written and its value."""
        return tuple((line.name, line.value) for line in self.known)

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field by its lower-case name."""
        values = self.index.get(name)
        return values[0] if values else None

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field by its lower-case name, in order."""
        return self.index.get(name, [])

    def tokens(self, name: bytes) -> list[bytes]:
        """The members of a list field, of all its lines, in lower case; empty ones left out (RFC 9110 5.6.1)."""
        found: list[bytes] = []
        for value in self.index.get(name, ()):
            found += [token for part in value.lower().split(b",") if (token := part.strip(b" \t"))]
        return found

    def __repr__(self) -> str:
        return f"<Fields {[line.name for line in self.known]}>"
