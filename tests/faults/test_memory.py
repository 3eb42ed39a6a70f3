"""Memory: a client that does not read costs a buffer, and an idle session next to nothing."""

import fcntl
import socket
import termios
from contextlib import ExitStack

import pytest

from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
log: {access: off}
load_balancer: {connection_idle_timeout: 1h, stall_timeout: 1h}
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {health_check: {type: none}, backends: [{name: b1, address: "${B1}"}]}}
"""

MIB = 1024 * 1024
IDLE = 5000  # sessions


def unread(sock: socket.socket) -> int:
    """Bytes that have come and were not read."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), "little")


class Standstill:
    """True once a value has been the same, and not zero, for `looks` looks."""

    def __init__(self, looks: int = 30):
        self._looks, self._last, self._same = looks, 0, 0

    def __call__(self, value: int) -> bool:
        self._same = self._same + 1 if value and value == self._last else 0
        self._last = value
        return self._same >= self._looks


@pytest.mark.xdist_group("heavy")
def test_a_stream_to_a_client_that_does_not_read_is_held_back(tmp_path):
    with Origin("flood") as origin, Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        before = proxy.rss()
        with proxy.connect("web") as client:
            still = Standstill()
            eventually(lambda: still(unread(client)), what="nothing moves any more")
            assert proxy.rss() - before < 16 * MIB
            buffer, received = bytearray(4 * MIB), 0
            while size := client.recv_into(buffer):
                received += size
            assert received == 256 * MIB
        assert proxy.rss() - before < 16 * MIB


@pytest.mark.xdist_group("heavy")
@pytest.mark.usefixtures("many_descriptors")
def test_thousands_of_idle_sessions(tmp_path):
    with Origin("crowd") as origin, Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        baseline, before = proxy.descriptors(), proxy.rss()
        with ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect("web")) for _ in range(IDLE)]
            eventually(lambda: proxy.descriptors() == baseline + 2 * IDLE, 20, "all sessions are relayed")
            assert (proxy.rss() - before) / IDLE < 8 * 1024
            for client in clients[:: IDLE // 50]:
                client.sendall(b"still there")
                assert read(client, 11) == b"still there"
        eventually(lambda: proxy.descriptors() <= baseline, 20, "all descriptors are back")
