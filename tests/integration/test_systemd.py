"""Under a service manager: readiness is told, and sockets are taken over."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
workers: 2
listeners: [{name: web, bind: "127.0.0.1:${PORT}", upstream: app}]
upstreams: {app: {backends: [{name: one, address: "${B1}"}]}}
"""


@pytest.fixture
def origin():
    with Origin("hello", "one") as origin:
        yield origin


class Manager:
    """What it is told by a service."""

    def __init__(self, path):
        self.path = str(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._sock.settimeout(20)

    def told(self):
        """The next message that is not only a sign of life."""
        while True:
            fields = dict(line.split("=", 1) for line in self._sock.recv(4096).decode().splitlines())
            if fields != {"WATCHDOG": "1"}:
                return fields

    def close(self):
        self._sock.close()


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def test_it_says_when_it_is_ready_reloads_and_stops(tmp_path, origin, manager):
    environ = {"B1": origin.address, "PORT": "0", "NOTIFY_SOCKET": manager.path}
    with Gproxy(tmp_path, CONFIG, environ=environ) as proxy:
        ready = manager.told()
        assert (ready["READY"], ready["MAINPID"]) == ("1", str(proxy.process.pid))
        proxy.signal(signal.SIGHUP)
        assert manager.told()["RELOADING"] == "1"
        assert manager.told()["READY"] == "1"
        proxy.config.write_text(CONFIG.replace("backends: [", 'balance: {python: "nowhere:at_all"}, backends: ['))
        proxy.signal(signal.SIGHUP)
        assert manager.told()["RELOADING"] == "1"
        assert manager.told()["READY"] == "1"  # with the configuration that it had
        assert proxy.stop() == 0
        assert manager.told() == {"STOPPING": "1"}


def test_it_gives_signs_of_life_as_often_as_it_should(tmp_path, origin, manager):
    environ = {"B1": origin.address, "PORT": "0", "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
    with Gproxy(tmp_path, CONFIG, environ=environ):
        manager.told()
        for _ in range(3):
            assert manager._sock.recv(4096) == b"WATCHDOG=1"


def test_it_serves_on_a_socket_that_was_made_for_it(tmp_path, origin):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (tmp_path / "gproxy.yaml").write_text(CONFIG)
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.executable, [sys.executable, '-m', 'gproxy', 'gproxy.yaml'])"
        )
        proxy = Gproxy(tmp_path, CONFIG)
        environ = proxy._environ | {"LISTEN_FDS": "1", "B1": origin.address, "PORT": str(port)}
        with open(tmp_path / "stderr", "ab") as log:
            proxy.process = subprocess.Popen(
                [sys.executable, "-c", code, str(listener.fileno())],
                pass_fds=[listener.fileno()], cwd=tmp_path, env=environ,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            proxy.wait_for_log("is ready")
            listener.close()
            for _ in range(10):
                with socket.create_connection(("127.0.0.1", port), 10) as client:
                    assert read(client, 4) == b"one\n"
            os.kill(proxy.processes()["worker0"], signal.SIGKILL)
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                assert read(client, 4) == b"one\n"
            eventually(lambda: "worker0" in proxy.processes())
            assert proxy.stop() == 0
        finally:
            proxy.process.kill()
            proxy.process.wait()
