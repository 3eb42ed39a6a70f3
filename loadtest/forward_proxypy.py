"""proxy.py (PyPI) as a forwarder of TCP, on its own tunnel handler.

    python forward_proxypy.py CONFIG

The configuration: see forwarding.py. A contestant of compare.py; nothing else should use it.
Its reverse proxy for http takes no part: of two requests on one connection, 2.4.10 answers the first.
"""

from __future__ import annotations

import itertools
import resource
import signal
import sys
from typing import Any

from forwarding import BACKLOG, addresses
from proxy import Proxy
from proxy.core.base import BaseTcpTunnelHandler
from proxy.core.connection import TcpServerConnection


def forwarder(backends: list[tuple[str, int]]) -> type:
    turns = itertools.cycle(backends)

    class Forwarder(BaseTcpTunnelHandler):
        def initialize(self) -> None:
            super().initialize()
            self.upstream: Any = TcpServerConnection(*next(turns))
            self.upstream.connect()

        def handle_data(self, data: memoryview) -> bool | None:
            self.upstream.queue(data)
            return None

    return Forwarder


def main(path: str) -> None:
    (host, port), backends = addresses(path)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    arguments = [
        f"--hostname={host}", f"--port={port}", f"--backlog={BACKLOG}", f"--open-file-limit={files}",
        "--num-acceptors=1", "--num-workers=1", "--local-executor=1", "--timeout=600", "--log-level=ERROR",
    ]  # fmt: skip
    with Proxy(arguments, work_klass=forwarder(backends)):
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
