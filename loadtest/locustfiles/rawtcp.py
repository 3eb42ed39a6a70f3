"""Raw TCP: sessions of some messages of 1 byte to 256 KiB, each of which must come back; in the end a FIN for a FIN."""

from __future__ import annotations

import contextlib
import random
import socket

import gevent
from locust import User, between, task
from objectives import Objectives, hold
from reported import SpeechError, connected, reported

MESSAGES = 10  # of a session
LARGEST = 18  # as a power of two
BYTES = random.Random(3).randbytes(1 << LARGEST)

hold(Objectives(errors=0.0, p50=250, p95=1000, p99=3000, timed=("message",)))


class Speaker(User):
    wait_time = between(0.1, 0.5)

    @task
    def session(self) -> None:
        with contextlib.suppress(OSError, SpeechError):  # counted
            with reported(self, "tcp", "connect"):
                connection = connected(self)
            with connection:
                for _ in range(MESSAGES):
                    self.message(connection)
                    gevent.sleep(self.wait_time())
                self.goodbye(connection)

    def message(self, connection: socket.socket) -> None:
        length = random.randint(1, 1 << random.randint(0, LARGEST))
        start = random.randrange(len(BYTES) - length + 1)
        sent = BYTES[start : start + length]
        with reported(self, "tcp", "message"):
            # Aside, because the echo begins before all is sent.
            sending = gevent.spawn(connection.sendall, sent)
            if receive(connection, length) != sent:
                raise SpeechError("other bytes came back")
            sending.get()

    def goodbye(self, connection: socket.socket) -> None:
        with reported(self, "tcp", "half-close"):
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1):
                raise SpeechError("bytes that nobody sent")


def receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise SpeechError(f"closed after {len(data)} bytes of {length}")
        data += part
    return bytes(data)
