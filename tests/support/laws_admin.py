"""The law of the admin API: whatever comes over its socket, it answers 2xx or 4xx or nothing, and serves the next one.

with AdminScene() as scene:
    scene.law(b"GET /v1/state HTTP/1.1 ...")

It is the steward's own server in this process, so that a fuzzer sees which of its lines are reached.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
from types import TracebackType
from typing import Any

import gevent
import gevent.socket

from gproxy.admin.desk import Instance
from gproxy.admin.keepsake import Keepsake
from gproxy.net.connection import Endpoint
from gproxy.net.listener import listen
from gproxy.shared import Shared
from gproxy.steward import AdminPost, Steward
from tests.support.configs import make_config

TIMEOUT = 20.0  # seconds
_NOTHING_TO_TELL: dict[str, Any] = {"decisions": [], "stories": {"stories": [], "left_off": 0}}
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


class AdminScene:
    """A steward of an upstream `app` with a backend `b1`, which nobody checks."""

    def __init__(self) -> None:
        config = make_config(root="admin: {bind: '127.0.0.1:0'}", check="{type: none}")
        sock = listen(Endpoint(gevent.socket.AF_INET, ("127.0.0.1", 0)), 64)
        self.address = sock.getsockname()
        instance = Instance(master=1, began=time.monotonic(), generation=1, addresses={"web0": "127.0.0.1:1"})
        self._steward = Steward(config, Shared(config), post=AdminPost([sock], instance, self._say, None, Keepsake()))
        self._said = io.StringIO()  # tracebacks
        self._log = io.StringIO()
        self._handler = logging.StreamHandler(self._log)
        self._handler.setLevel(logging.ERROR)

    def law(self, data: bytes) -> str:
        """Send it, and FIN; the status of the first answer, `nothing` without one. Port 9901 stands for ours."""
        with contextlib.redirect_stderr(self._said):
            answer = self._talk(data.replace(b":9901", b":%d" % self.address[1]))
        assert "Traceback" not in self._said.getvalue(), self._said.getvalue()
        assert not self._log.getvalue(), self._log.getvalue()
        if not answer:
            return "nothing"
        status = _STATUS.match(answer)
        assert status, answer[:200]
        code = int(status[1])
        assert code < 500 or code == 503, answer[:500]  # 503: once b1 drains, /v1/health says so
        return str(code)

    def check_alive(self) -> None:
        """The next one is served."""
        own = b"localhost:%d" % self.address[1]
        answer = self._talk(b"GET /v1/state HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % own)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:500]

    def _talk(self, data: bytes) -> bytes:
        answer = b""
        with gevent.socket.create_connection(self.address, TIMEOUT) as client:
            try:
                client.sendall(data)
                client.shutdown(gevent.socket.SHUT_WR)
                while piece := client.recv(65536):
                    answer += piece
            except ConnectionError:
                pass  # it does not read what it has refused
        return answer

    def _say(self, said: str, **message: Any) -> bool:
        """The master, which answers for the worker."""
        if said == "ask":
            gevent.spawn(self._steward.answered, message["id"], _NOTHING_TO_TELL[message["question"]["ask"]])
        return True

    def __enter__(self) -> AdminScene:
        logging.getLogger("gproxy.admin").addHandler(self._handler)
        self._level = logging.getLogger("gproxy").level
        self._stream, gevent.get_hub().exception_stream = gevent.get_hub().exception_stream, self._said
        self._steward.start()
        self._steward.report()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._steward.stop()
        gevent.get_hub().exception_stream = self._stream
        logging.getLogger("gproxy.admin").removeHandler(self._handler)
        logging.getLogger("gproxy").setLevel(self._level)  # it can be changed over the API
