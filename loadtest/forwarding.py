"""What the forwarders of compare.py are told: a line with the address to listen on, then one for each backend."""

from __future__ import annotations

from pathlib import Path

BACKLOG = 4096
PIECE_BYTES = 64 << 10  # as gproxy's buffer

Address = tuple[str, int]


def addresses(path: str) -> tuple[Address, list[Address]]:
    listen, *backends = (parsed(line) for line in Path(path).read_text().split())
    return listen, backends


def parsed(line: str) -> Address:
    host, _, port = line.rpartition(":")
    return host, int(port)
