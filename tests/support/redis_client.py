"""A Redis client that fits on a page: one connection, one command, one reply at a time."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any


class RedisClient:
    """`with RedisClient(address) as redis: redis("SET", "k", "v")`. Errors are replies that start with `-`."""

    def __init__(self, address: tuple[str, int], timeout: float = 10.0):
        self.sock = socket.create_connection(address, timeout)
        self._lines = self.sock.makefile("rb")

    def __call__(self, *command: str | int) -> Any:
        words = [str(word).encode() for word in command]
        self.sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.reply()

    def reply(self) -> Any:
        """The next reply, or pushed message: str, int, list or None."""
        line = self._lines.readline()
        assert line.endswith(b"\r\n"), f"the connection ended: {line!r}"
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._lines.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        assert kind in b"+-", line
        return rest.decode() if kind == b"+" else line[:-2].decode()

    def close(self) -> None:
        self._lines.close()
        self.sock.close()

    def __enter__(self) -> RedisClient:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
