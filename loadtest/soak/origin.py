"""A backend of the chaos, one process with two ports, http and tcp; see http_marks.py for what requests may ask of it.

    python -m soak.origin NAME HTTP_PORT TCP_PORT JOURNAL SEED

It says `ready`, and then listens on standard input: `rough` makes it end idle connections, and be slow, at random;
`calm` ends that; `sick` and `well` are for health checks. It ends with that input.

tcp: a request is a line `MARK UP DOWN ACT` and UP bytes; the answer a line `MARK DOWN` and DOWN bytes. Both bodies say
in every part whose they are.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
import zlib
from pathlib import Path

from soak.journal import Journal
from tests.support.ends import reset
from tests.support.http_ledger import IDLE, LATER
from tests.support.http_lies import lying_answers
from tests.support.http_marks import MarkedOrigin, Request, parse_request, upload_of
from tests.support.http_origin import HttpOrigin, Lie, respond, tell
from tests.support.http_wire import NotHttp, RequestHead, Wire, read_request_head

HEALTH = b"/health"
LIES = [lie for lie in lying_answers() if not lie.afterwards]
END_RATE = 0.03  # the share of responses after which a connection ends unannounced
PAUSE_RATE = 0.03
LONGEST_PAUSE = 0.2  # seconds


class Mood:
    """How it behaves at present."""

    def __init__(self, seed: str):
        self.rough = self.sick = False
        self._random = random.Random(seed)

    def pause(self) -> None:
        if self.rough and self._random.random() < PAUSE_RATE:
            time.sleep(self._random.random() * LONGEST_PAUSE)

    def ends(self, connection: socket.socket) -> bool:
        """Whether the connection ends here; if so, how is decided as well."""
        if not self.rough or self._random.random() >= END_RATE:
            return False
        how = self._random.choice(IDLE)
        if how == "close-later":
            wait(connection, LATER)
        if how == "reset":
            reset(connection)
        return True


def wait(connection: socket.socket, seconds: float) -> None:
    """For a request, which stays unread then, or the time."""
    connection.settimeout(seconds)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return
    finally:
        connection.settimeout(None)


def lie_number(mark: bytes) -> int:
    return zlib.crc32(mark) % 10000


class HttpSide(MarkedOrigin):
    """Acts of its own: `lie`, of which the size is the number; `upgrade`, an echo in a tunnel."""

    def __init__(self, name: str, port: int, journal: Journal, mood: Mood):
        super().__init__(name, port=port)
        self._journal = journal
        self._mood = mood

    def converse(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        spoke = False
        try:
            while head := read_request_head(wire):
                if head.target == HEALTH:
                    status = b"503 Sick" if self._mood.sick else b"200 OK"
                    connection.sendall(respond(head.method, b"well", status=status))
                    continue
                if not spoke:
                    self._journal.write(b"C http")
                    spoke = True
                if not self._serve_one(wire, head):
                    return
        except NotHttp as error:
            self._journal.write(b"!", f"http: {error}".encode("latin-1", "replace"))

    def _serve_one(self, wire: Wire, head: RequestHead) -> bool:
        self._journal.write(b"B http", parse_request(head).mark)
        self._mood.pause()
        return self.exchange(wire, head) and not self._mood.ends(wire.sock)

    def execute(self, request: Request, body: bytes | None) -> None:
        if body and body != upload_of(request.mark, len(body)):
            self._journal.write(b"! a body that is not that of", request.mark)
        self._journal.write(b"X", request.method, request.mark)

    def answer(self, wire: Wire, request: Request, body: bytes) -> bool:
        if request.act == "lie":
            lie = LIES[request.size].numbered(lie_number(request.mark))
            return tell(Lie(lie.raw, lie.then), wire.sock)
        if request.act == "upgrade":
            self._tunnel(wire, request)
            return False
        return super().answer(wire, request, body)

    def _tunnel(self, wire: Wire, request: Request) -> None:
        fields = b"Connection: upgrade\r\nUpgrade: echo\r\nX-Mark: " + request.mark
        wire.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n")
        while not wire.at_end():
            wire.sock.sendall(wire.some(1 << 16))


class TcpSide(HttpOrigin):
    """Acts: `slow`, and `close` and `reset` amid the answer."""

    def __init__(self, name: str, port: int, journal: Journal, mood: Mood):
        super().__init__(name, port)
        self._journal = journal
        self._mood = mood

    def converse(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        spoke = False
        try:
            while not wire.at_end():
                line = wire.line()
                if not spoke:
                    self._journal.write(b"C tcp")
                    spoke = True
                if not self._serve_one(wire, line):
                    return
        except (NotHttp, ValueError) as error:
            self._journal.write(b"!", f"tcp: {error!r}".encode("latin-1", "replace"))

    def _serve_one(self, wire: Wire, line: bytes) -> bool:
        if line.count(b" ") != 3:
            raise NotHttp(f"not a request: {line!r}")
        mark, up, down, act = line.split(b" ")
        self._journal.write(b"B tcp", mark)
        if wire.exactly(int(up)) != upload_of(mark, int(up)):
            self._journal.write(b"! bytes that are not those of", mark)
        self._journal.write(b"X TCP", mark)
        answer = b"%s %s\r\n" % (mark, down) + upload_of(mark, int(down))
        if act == b"slow":
            time.sleep(LONGEST_PAUSE / 4)
        wire.sock.sendall(answer[: len(answer) // 2] if act in (b"close", b"reset") else answer)
        if act == b"reset":
            reset(wire.sock)
        return act not in (b"close", b"reset")


def main(name: str, http_port: str, tcp_port: str, journal: str, seed: str) -> None:
    threading.stack_size(256 << 10)
    mood = Mood(seed)
    ledger = Journal(Path(journal))
    with HttpSide(name, int(http_port), ledger, mood), TcpSide(name, int(tcp_port), ledger, mood):
        print("ready", flush=True)
        for word in map(str.strip, sys.stdin):
            if word in ("rough", "calm"):
                mood.rough = word == "rough"
            elif word in ("sick", "well"):
                mood.sick = word == "sick"


if __name__ == "__main__":
    main(*sys.argv[1:])
