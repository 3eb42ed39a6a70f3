"""The ledger: a line for each connection that spoke, each request that arrived, and each that was executed.

Backends append to one file, a write per line, so that a SIGKILL takes nothing back.

    C http              a connection has brought its first request
    B http MARK         a request's head has come
    X POST MARK         the request has come as a whole and is executed
    ! TEXT              something came that nobody may have sent
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


class Journal:
    """For backends."""

    def __init__(self, path: Path):
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, *words: bytes) -> None:
        os.write(self._fd, b" ".join(words) + b"\n")


@dataclass
class Entries:
    connections: Counter[str] = field(default_factory=Counter)  # by protocol
    begun: Counter[str] = field(default_factory=Counter)
    executed: Counter[bytes] = field(default_factory=Counter)  # by mark
    methods: dict[bytes, bytes] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def add(self, line: bytes) -> None:
        kind, _, rest = line.partition(b" ")
        words = rest.split(b" ")
        if kind == b"C":
            self.connections[words[0].decode()] += 1
        elif kind == b"B":
            self.begun[words[0].decode()] += 1
        elif kind == b"X":
            self.methods[words[1]] = words[0]
            self.executed[words[1]] += 1
        else:
            self.complaints.append(rest.decode("latin-1"))


class JournalReader:
    def __init__(self, path: Path):
        self._file = path.open("rb")
        self._rest = b""

    def read(self) -> Entries:
        """All since the last time."""
        entries = Entries()
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            entries.add(line)
        return entries

    def close(self) -> None:
        self._file.close()
