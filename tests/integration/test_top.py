"""`gproxy top` in a terminal, and into a pipe."""

import contextlib
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from http.client import HTTPConnection

import pytest

from tests.support.admin import Admin
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, command_environ, gproxy, wait_until_stopped

CONFIG = """
admin: {{bind: "127.0.0.1:{port}"}}
log: {{access: off}}
load_balancer: {{drain_timeout: 1}}
listeners: [{{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}}]
upstreams: {{app: {{backends: [{{name: one, address: "${{ONE}}"}}, {{name: two, address: "127.0.0.1:1"}}]}}}}
"""


@pytest.fixture
def origin():
    with Origin("http", "one") as origin:
        yield origin


@pytest.fixture
def proxy(tmp_path, origin):
    with Gproxy(tmp_path, CONFIG.format(port=0), environ={"ONE": origin.address}) as proxy:
        yield proxy


class Terminal:
    """top in one of 80 columns and 24 rows."""

    def __init__(self, *arguments):
        self._ours, self.theirs = pty.openpty()
        ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        os.set_blocking(self._ours, False)
        self._shown = ""
        self.before = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gproxy", "top", "--interval", "100ms", *arguments],
            stdin=self.theirs, stdout=self.theirs, stderr=subprocess.PIPE, env=command_environ({"TERM": "xterm"}),
            text=True, start_new_session=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=20)
        os.close(self._ours)
        os.close(self.theirs)

    def wait_for(self, pattern):
        """It is shown from now on, sooner or later."""
        self._shown = ""

        def look():
            self._shown += self._read()
            return re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._shown))

        assert eventually(look, 20, what=pattern)

    def press(self, keys):
        os.write(self._ours, keys.encode())

    def ended(self):
        """Its exit status and what it says, with the terminal as it was."""
        eventually(lambda: (self._read(), self.process.poll() is not None)[1], 20)
        assert termios.tcgetattr(self.theirs) == self.before
        return self.process.returncode, self.process.stderr.read()

    def _read(self):
        with contextlib.suppress(BlockingIOError):
            return os.read(self._ours, 65536).decode(errors="replace")
        return ""


def at(proxy):
    host, port = Admin(proxy).address
    return "--admin", f"{host}:{port}"


def test_it_shows_traffic_and_ends_with_a_key(proxy):
    with Terminal(*at(proxy)) as terminal:
        terminal.wait_for(r"app/one +up ")
        terminal.wait_for(r"app/two +down ")
        connection = HTTPConnection(*proxy.address("web"), timeout=20)
        for _ in range(5):
            connection.request("GET", "/")
            connection.getresponse().read()
        connection.close()
        terminal.wait_for(r"response time +p50 [0-9.]+ [um]?s +p95")
        Admin(proxy).change("PUT", "/v1/upstreams/app/backends/one", {"administrative": "drain"})
        terminal.wait_for(r"app/one +up, drain ")
        terminal.press("t")
        terminal.wait_for("sorted by trouble")
        terminal.press("q")
        assert terminal.ended() == (0, "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(proxy, number, status):
    with Terminal(*at(proxy)) as terminal:
        terminal.wait_for("app/one")
        terminal.process.send_signal(number)
        assert terminal.ended() == (status, "")


def test_it_can_be_suspended(proxy):
    with Terminal(*at(proxy)) as terminal:
        terminal.wait_for("app/one")
        terminal.process.send_signal(signal.SIGTSTP)
        wait_until_stopped(terminal.process.pid)
        assert termios.tcgetattr(terminal.theirs) == terminal.before
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for("app/one")
        terminal.press("q")
        assert terminal.ended() == (0, "")


def test_a_gproxy_that_goes_away_and_comes_back(tmp_path, origin):
    environ = {"ONE": origin.address}
    with Gproxy(tmp_path, CONFIG.format(port=0), environ=environ) as proxy:
        _, port = Admin(proxy).address
        with Terminal(*at(proxy)) as terminal:
            terminal.wait_for("app/one")
            proxy.stop()
            terminal.wait_for("Connection refused; trying again")
            terminal.wait_for("app/one")
            with Gproxy(tmp_path, CONFIG.format(port=port), environ=environ) as next_one:
                terminal.wait_for(f"process {next_one.process.pid}")
                terminal.press("q")
                assert terminal.ended() == (0, "")


def test_it_may_start_first(proxy):
    address = at(proxy)
    proxy.stop()
    with Terminal(*address) as terminal:
        terminal.wait_for("Connection refused; trying again")
        terminal.press("\x1b[A")  # an arrow is no key of ours
        terminal.press("q")
        assert terminal.ended() == (0, "")


def test_once_prints_one_view_into_a_pipe(tmp_path, proxy):
    done = gproxy(tmp_path, "top", *at(proxy), "--once", "--interval", "100ms")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    assert [line.split()[:2] for line in lines if line.startswith("app/")] == [["app/one", "up"], ["app/two", "down"]]
    assert "accepted 0/s" in done.stdout


def test_what_it_can_not_do(tmp_path, proxy):
    done = gproxy(tmp_path, "top", *at(proxy))
    assert (done.returncode, done.stderr) == (
        2, "gproxy: top needs a terminal; --once prints one view for a pipe or a file\n"
    )  # fmt: skip
    address = at(proxy)
    proxy.stop()
    done = gproxy(tmp_path, "top", *address, "--once")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gproxy: no gproxy answers at {address[1]}: Connection refused\n"
