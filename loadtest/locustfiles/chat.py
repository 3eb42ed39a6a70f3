"""WebSocket chat: users join a room, speak, hear everybody in it in order, and leave now and then.

The time of a message is that until its speaker hears it. The room is in the path, and gproxy takes all
connections of a path to one backend.
"""

from __future__ import annotations

import random
import uuid

import gevent
from gevent.event import Event
from locust import User, between, task
from objectives import Objectives, hold
from reported import SILENCE_SECONDS, SpeechError, reported
from websocket import WebSocket, WebSocketConnectionClosedException, WebSocketException, create_connection

ROOMS = 8
STAY = 20  # messages until a user leaves, in the mean
SENTENCE = "The quick brown fox jumps over the lazy dog. "

hold(Objectives(errors=0.0, p50=250, p95=1000, p99=3000, timed=("message",)))


class Talker(User):
    """Speaks, while a greenlet of its own listens."""

    wait_time = between(0.5, 1.5)
    _socket: WebSocket | None = None

    @task
    def talk(self) -> None:
        try:
            if self._socket is None:
                self._join()
            with reported(self, "ws", "message"):
                self._speak()
        except (OSError, SpeechError, WebSocketException):  # counted
            self._leave()
        if random.random() < 1 / STAY:
            self._leave()

    def on_stop(self) -> None:
        self._leave()

    def _join(self) -> None:
        assert self.host
        url = f"{self.host.replace('http', 'ws', 1)}/chat/{random.randrange(ROOMS)}"
        with reported(self, "ws", "join", (WebSocketException,)):
            self._socket = create_connection(url, timeout=SILENCE_SECONDS)
        self._wanted, self._heard = "", Event()
        self._listener = gevent.spawn(self._listen, self._socket)

    def _speak(self) -> None:
        assert self._socket is not None
        self._wanted = f"{uuid.uuid4()} {SENTENCE * random.randint(1, 30)}"
        self._heard.clear()
        self._socket.send(self._wanted)
        if not self._heard.wait(SILENCE_SECONDS):
            raise SpeechError(f"not heard within {SILENCE_SECONDS:.0f} s")
        if self._listener.ready():
            raise SpeechError("the room was closed")

    def _listen(self, socket: WebSocket) -> None:
        """Until the connection ends; a number that is missing, or comes twice, is a failure."""
        last = None
        try:
            while True:
                number, _, text = str(socket.recv()).partition(" ")
                if last is not None and int(number) != last + 1:
                    with reported(self, "ws", "order"):
                        raise SpeechError(f"{number} after {last}")
                last = int(number)
                if text == self._wanted:
                    self._heard.set()
        except (OSError, ValueError, SpeechError, WebSocketException, WebSocketConnectionClosedException):
            self._heard.set()  # nobody needs to wait longer

    def _leave(self) -> None:
        if self._socket is not None:
            self._listener.kill()
            self._socket.close()
            self._socket = None
