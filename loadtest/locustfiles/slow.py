"""Slow clients beside others, whose times alone are judged.

Some send their head byte by byte, some their body, some read slowly, and some never end their head: they must
get a 408. Nobody else may notice.
"""

from __future__ import annotations

import contextlib
import socket
import time

from locust import User, constant_throughput, task
from objectives import Objectives, hold
from reported import SpeechError, connected, reported
from visitor import Visitor

PAUSE_SECONDS = 0.02  # after each byte
READ_PAUSE_SECONDS = 0.05
SMALL_BUFFER = 4096
DOWNLOAD_BYTES = 256 << 10
FIELDS = b"Host: slow\r\nConnection: close\r\n"
HEAD = b"GET /page/1 HTTP/1.1\r\n" + FIELDS + b"\r\n"
DOWNLOAD = b"GET /download/%d HTTP/1.1\r\n%b\r\n" % (DOWNLOAD_BYTES, FIELDS)
BODY = bytes(60)
UPLOAD = b"POST /upload HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (FIELDS, len(BODY))

hold(Objectives(errors=0.0, p50=250, p95=1000, p99=3000, timed=("page",)))


class Reader(Visitor):
    """As if nobody was slow."""

    weight = 2
    wait_time = constant_throughput(5)

    @task
    def read(self) -> None:
        self.page()


class SlowSender(User):
    @task
    def head(self) -> None:
        self.trickle("slow head", b"", HEAD)

    @task
    def body(self) -> None:
        self.trickle("slow upload", UPLOAD, BODY)

    def trickle(self, name: str, at_once: bytes, slowly: bytes) -> None:
        with contextlib.suppress(OSError, SpeechError), reported(self, "slow", name), connected(self) as connection:
            connection.sendall(at_once)
            for byte in slowly:
                connection.sendall(bytes([byte]))
                time.sleep(PAUSE_SECONDS)
            expect(connection, b"HTTP/1.1 200 ")


class SlowReader(User):
    @task
    def read(self) -> None:
        with contextlib.suppress(OSError, SpeechError), reported(self, "slow", "slow download"):
            self.download()

    def download(self) -> None:
        received = 0
        with connected(self, SMALL_BUFFER) as connection:
            connection.sendall(DOWNLOAD)
            while part := connection.recv(SMALL_BUFFER):
                received += len(part)
                time.sleep(READ_PAUSE_SECONDS)
        if received < DOWNLOAD_BYTES:
            raise SpeechError(f"{received} bytes of {DOWNLOAD_BYTES}")


class Stuck(User):
    @task
    def stick(self) -> None:
        name = "head without end (408)"
        with contextlib.suppress(OSError, SpeechError), reported(self, "slow", name), connected(self) as connection:
            connection.sendall(HEAD[:-2])
            expect(connection, b"HTTP/1.1 408 ")


def expect(connection: socket.socket, start: bytes) -> None:
    """Reads to the end of the connection; SpeechError unless that begins so."""
    answer = b""
    while part := connection.recv(64 << 10):
        answer += part
    if not answer.startswith(start):
        raise SpeechError(f"answered {answer[:60]!r}")
