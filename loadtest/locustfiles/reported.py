"""For users that speak over sockets of their own: tells Locust how long something took, and how it ended."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from locust import User

SILENCE_SECONDS = 30.0


class SpeechError(Exception):
    """The peer did not say what it should."""


@contextlib.contextmanager
def reported(user: User, kind: str, name: str, failures: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """One request in Locust's tables. OSError, SpeechError and `failures` are failures, and are raised on."""
    start = time.perf_counter()
    failed: Exception | None = None
    counted: tuple[type[Exception], ...] = (OSError, SpeechError, *failures)
    try:
        yield
    except counted as error:
        failed = error
        raise
    finally:
        milliseconds = (time.perf_counter() - start) * 1000
        user.environment.events.request.fire(
            request_type=kind, name=name, response_time=milliseconds, response_length=0, exception=failed, context={}
        )


def address(user: User) -> tuple[str, int]:
    """Host and port of Locust's --host."""
    parts = urlsplit(user.host or "")
    assert parts.hostname, "--host SCHEME://ADDRESS:PORT is needed"
    assert parts.port, "--host SCHEME://ADDRESS:PORT is needed"
    return parts.hostname, parts.port


def connected(user: User, receive_buffer: int = 0) -> socket.socket:
    """A socket with a timeout; `receive_buffer` in bytes, 0 for the kernel's own size."""
    connection = socket.socket()
    try:
        connection.settimeout(SILENCE_SECONDS)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(address(user))
    except OSError:
        connection.close()
        raise
    return connection
