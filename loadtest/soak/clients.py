"""What clients of both protocols have in common: connections that are counted, requests that are booked."""

from __future__ import annotations

import socket
from collections.abc import Callable

from soak.stage import TIMEOUT, Actor, CountingSocket, Stage, Told, Traffic
from tests.support.http_wire import Cut, NotHttp


class Client(Actor):
    """One client. `book` has the method of each of its requests, and what became of it."""

    def __init__(self, stage: Stage, listener: str, number: int):
        super().__init__(stage, f"{listener}{number}")
        self.listener = listener
        self.prefix = f"{stage.name}.{self.name}".encode()
        self.traffic = Traffic()
        self.book: dict[bytes, tuple[bytes, str]] = {}
        self._asked = 0

    def moves(self) -> dict[Callable[[], None], int]:
        """Each with its weight."""
        raise NotImplementedError

    def drop(self) -> None:
        """Close what is open."""
        raise NotImplementedError

    def act(self) -> None:
        moves = self.moves()
        move = self.rng.choices(list(moves), list(moves.values()))[0]
        self.counts[move.__name__] += 1
        try:
            move()
        except (NotHttp, TimeoutError) as error:
            self.violate(f"{move.__name__}, {self.last.decode()}: {error!r}")
            self.drop()
        except ConnectionRefusedError as error:
            self.violate(f"{move.__name__}: {error!r}")
        except (OSError, Cut) as error:  # such as: no longer connected
            self.failed(f"{move.__name__}, {self.last.decode()}: {error!r}")
            self.drop()

    def finish(self) -> None:
        self.drop()

    def failed(self, text: str) -> None:
        """A request, or a connection. Only where nothing may fail that is wrong."""
        if not self.stage.rough:
            self.violate(text)

    @property
    def last(self) -> bytes:
        return b"%s-%d" % (self.prefix, self._asked)

    def new_mark(self, method: bytes) -> bytes:
        self._asked += 1
        self.book[self.last] = (method, Told.UNKNOWN)
        return self.last

    def tell(self, mark: bytes, told: str) -> None:
        self.book[mark] = (self.book[mark][0], told)

    def connect(self, buffer: int = 0) -> CountingSocket:
        """`buffer`: bytes that it takes unread."""
        sock = CountingSocket()
        sock.tally = self.traffic
        sock.settimeout(TIMEOUT)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.traffic.connections += 1
        try:
            sock.connect(self.stage.address(self.listener))
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
