"""gproxy inside the test's own process and gevent hub, as a program that embeds it would have it."""

from __future__ import annotations

import socket
from typing import Any

from gproxy import config
from gproxy.core.record import ExchangeRecord, RecordSink, SessionRecord
from gproxy.metrics import Slot
from gproxy.worker import Worker
from tests.support.clock import FakeClock
from tests.support.loopback import TIMEOUT, Peer, PlayedBackend, wrap
from tests.support.poll import eventually

_YAML = """
log: {{access: off}}
{root}
listeners: [{{name: web, mode: {mode}, bind: "{bind}", upstream: app, {listener}}}, {also}]
upstreams:
  app: {{health_check: {{type: none}}, backends: [{backends}], {upstream}}}
  {further}
"""


class _Records(RecordSink):
    """In the access log's place."""

    def __init__(self) -> None:
        self.ended: list[Any] = []

    def session(self, record: SessionRecord) -> None:
        self.ended.append(record)

    def exchange(self, record: ExchangeRecord) -> None:
        self.ended.append(record)


def backend(played: PlayedBackend | str, keys: str = "") -> str:
    """A backend's entry of the configuration."""
    address = played if isinstance(played, str) else played.address
    return f'{{address: "{address}", {keys}}}'


class Embedded:
    """`with Embedded(backend(played)) as proxy:` serves on the listener `web` with the upstream `app`.

    `listener` and `upstream` are further keys of theirs in YAML's flow style, `further` is another
    upstream such as `api: {...}`, `root` a key such as `max_connections: 5`, `also` another listener,
    `parts` are Worker's: a clock, a dial.
    """

    mode = "tcp"

    def __init__(
        self,
        *backends: str,
        bind: str = "127.0.0.1:0",
        listener: str = "",
        upstream: str = "",
        further: str = "",
        root: str = "",
        also: str = "",
        **parts: Any,
    ):
        keys = {"bind": bind, "listener": listener, "upstream": upstream, "further": further}
        text = _YAML.format(backends=", ".join(backends), mode=self.mode, root=root, also=also, **keys)
        self.worker = Worker(config.parse(text, "test", {}), **parts)
        self._records = _Records()
        self.service.access_log = self._records
        self._clients: list[Peer] = []

    @property
    def service(self) -> Any:
        return self.worker.services[0]

    @property
    def sessions(self) -> list[Any]:
        return list(self.worker.sessions)

    def connect(self, listener: str = "web") -> Peer:
        """A new client."""
        address = self.worker.address(listener)
        sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        sock.connect(address)  # the kernel answers it; the hub does not run, so that no RST comes in between
        peer = wrap(sock)
        self._clients.append(peer)
        return peer

    def ended(self, count: int = 1) -> list[Any]:
        """The access log's records, of sessions in tcp and of exchanges in http, once there are so many."""
        eventually(lambda: len(self._records.ended) >= count, TIMEOUT, f"{count} records are there")
        return self._records.ended

    def codes(self, count: int = 1) -> list[str]:
        """Their termination codes in the order in which they ended, once there are so many."""
        return [record.code for record in self.ended(count)]

    def counted(self, slot: int) -> int:
        """One of `Slot`."""
        self.worker.metrics.catch_up()
        return self.worker.metrics.view[slot]

    def closed(self, count: int = 1) -> dict[str, int]:
        """How many sessions have ended under each code, once that are so many."""

        def now() -> dict[str, int]:
            found = self.worker.metrics.snapshot().counters.items()
            return {name.partition(".")[2]: n for name, n in found if name.startswith("sessions_closed.")}

        eventually(lambda: sum(now().values()) >= count, TIMEOUT, f"{count} sessions have ended")
        return now()

    def sweep(self) -> None:
        """What the TimeoutManager does once a second."""
        self.worker.timeouts.sweep()

    def pass_time(self, clock: FakeClock, seconds: float) -> None:
        """Look, let so many seconds pass, and look again."""
        self.sweep()
        clock.advance(seconds)
        self.sweep()

    @property
    def backends(self) -> list[Any]:
        """Those of the upstream `app`."""
        return list(self.worker.upstreams["app"].backends)

    @property
    def dirty(self) -> int:
        return self.counted(Slot.POOL_DIRTY)

    def __enter__(self) -> Embedded:
        self.worker.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for client in self._clients:
            client.close()
        self.worker.stop()


class EmbeddedHttp(Embedded):
    """The same with an http listener."""

    mode = "http"
