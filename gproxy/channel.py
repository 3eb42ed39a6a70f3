"""Channel: how the master and a child tell one another what to do and what has happened.

A pair of unix sockets that keep messages apart. A message is a short JSON object; the end of the channel says that
the other process has ended, however it did.

| to a child | |
|---|---|
| `{"do": "drain", "timeout": 30, "gently": true}` | a worker: end in order; gently, where others serve; or stricter |
| `{"do": "serve"}` | a worker: all are ready, accept clients |
| `{"do": "stop"}` | end at once |
| `{"do": "reopen"}` | a worker: open the access log anew |
| `{"do": "report", "after": [2]}` | the steward: nobody else reports, or serves the API; orders of then may be news |
| `{"do": "retire"}` | the steward: another master's does, from now on |
| `{"do": "ending"}` | the steward: we have been asked to stop |
| `{"do": "reload", "reload": [2, "failed", "...", 17.5]}` | the steward: how the last reload goes (admin/desk.py) |
| `{"do": "over", "generation": 3}` | the steward: an earlier configuration's last session has ended |

| `{"do": "eject", "upstream": "app", "backend": "b1", "seconds": 5}` | a worker: leave a backend out |
| `{"do": "readmit", ...}`, `{"do": "empty", ...}` | a worker: end its ejection; close its idle connections |
| `{"do": "log", "level": "debug"}` | a worker: what to log |
| `{"do": "ask", "id": 7, "ask": "decisions", "last": 20}` | a worker: a question of the steward's |
| `{"do": "ask", "id": 8, "ask": "stories", ...}` | the same, with the members of Wanted (admin/stories.py) |
| `{"do": "answered", "id": 7, "answer": [...]}` | the steward: a worker's answer |

| to the master | |
|---|---|
| `{"said": "ready"}` | it can serve |
| `{"said": "failed", "why": "..."}` | it can't start; it ends with status 2 |
| `{"said": "reports", "after": [2]}` | the steward: it knows those orders now |
| `{"said": "absorbed", "generation": 3}` | the steward: what that one has counted is among its own numbers now |
| `{"said": "tell", "order": {"do": "eject", ...}}` | the steward: for all workers |
| `{"said": "ask", "id": 7, "question": {"ask": "decisions", ...}}` | the steward: for its workers |
| `{"said": "answer", "id": 7, "answer": [...]}` | a worker: for its steward |
| `{"said": "reload"}` | the steward: as SIGHUP |
"""

from __future__ import annotations

import json
from contextlib import suppress
from socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair
from typing import Any

_LONGEST = 64 * 1024  # bytes
_LONGEST_TEXT = 4096  # characters, of which JSON makes twelve bytes at the worst

Message = dict[str, Any]


class Channel:
    """One end. Never waits."""

    def __init__(self, sock: socket):
        sock.setblocking(False)
        self._sock = sock
        self.over = False  # the other end has gone

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        one, other = socketpair(AF_UNIX, SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, **message: Any) -> bool:
        """Tell the other side. Texts are cut. False, and nothing happens, where it has gone or does not listen."""
        short = {key: value[:_LONGEST_TEXT] if isinstance(value, str) else value for key, value in message.items()}
        with suppress(OSError):
            self._sock.send(json.dumps(short).encode())
            return True
        return False

    def receive(self) -> list[Message]:
        """What has come since the last time; `over` is set at the end."""
        messages: list[Message] = []
        while True:
            try:
                data = self._sock.recv(_LONGEST)
            except BlockingIOError:
                return messages
            except ConnectionResetError:  # it ended without having read all; what it said is still to come
                continue
            except OSError:
                data = b""
            if not data:
                self.over = True
                return messages
            with suppress(ValueError):  # no master falls over what a child says
                message = json.loads(data)
                if isinstance(message, dict):
                    messages.append(message)

    def close(self) -> None:
        self._sock.close()

    def __repr__(self) -> str:
        return f"<Channel {self.fileno()}{' over' if self.over else ''}>"
