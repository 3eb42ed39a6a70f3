"""`gproxy demo`: a balancer to play with, which leaves nothing behind, however it ends."""

import http.client
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.browser import browser
from tests.support.ends import TIMEOUT
from tests.support.poll import eventually
from tests.support.proxy import command_environ


class Demo:
    """The running command, in a process group of its own as a terminal would have it, and what it printed."""

    def __init__(self, directory: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gproxy", "demo", "--port", "0", "--origin-port", "0", "--admin-port", "0"],
            cwd=directory, env=command_environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        lines = []
        while "Ctrl-C" not in (lines[-1:] or [""])[0]:
            lines.append(self.process.stdout.readline())
            assert lines[-1], lines
        self.greeting = "".join(lines)
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", self.greeting)[1])
        self.origins = {name: int(pid) for name, pid in re.findall(r"(b\d) is process (\d+)", self.greeting)}

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def ask(self, target: str = "/some/path", **fields: str) -> str:
        """The body of one answer."""
        with closing(self.connect()) as client:
            return ask(client, target, **fields)

    def names(self) -> set[str]:
        return {self.ask().split()[0] for _ in range(6)}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gproxy", *arguments], capture_output=True, text=True, env=command_environ(),
        timeout=TIMEOUT, check=False,
    )  # fmt: skip


def ask(client: http.client.HTTPConnection, target: str = "/", **fields: str) -> str:
    client.request("GET", target, headers={name.replace("_", "-"): value for name, value in fields.items()})
    response = client.getresponse()
    assert response.status == 200
    return response.read().decode()


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path)
    with demo.process:
        yield demo
        if demo.process.poll() is None:
            demo.process.kill()


def is_alive(pid: int) -> bool:
    """Whether any thread of a process runs, and so has its sockets open; a zombie has nothing left."""
    return any(state not in "ZX" for state in map(thread_state, Path(f"/proc/{pid}/task").glob("*/stat")))


def thread_state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def none_is_left(demo: Demo) -> bool:
    return not any(is_alive(pid) for pid in demo.origins.values())


def test_it_says_what_to_try_and_all_three_origins_answer(demo):
    assert demo.origins.keys() == {"b1", "b2", "b3"}
    assert f"curl http://127.0.0.1:{demo.port}/" in demo.greeting
    assert f"kill {demo.origins['b2']} " in demo.greeting
    assert demo.names() == {"b1", "b2", "b3"}
    assert re.fullmatch(r"b\d answered: GET /some/path, from process \d+\n", demo.ask())


def test_requests_of_one_connection_go_to_all_three(demo):
    with closing(demo.connect()) as client:
        assert {ask(client).split()[0] for _ in range(3)} == {"b1", "b2", "b3"}


def test_a_page_says_who_answered_what(demo):
    page = demo.ask("/some/path", Accept="text/html,*/*;q=0.5", X_Request_ID="my-own-id", X_Mine="<b>")
    name = re.search(r"<h1>(b\d) answered</h1>", page)[1]
    assert f"process {demo.origins[name]};" in page
    assert "<code>GET /some/path</code>" in page
    assert "request number 1 of" in page
    assert "its id is <code>my-own-id</code>" in page
    added, sent = page.split("What the browser sent")
    assert "<th>X-Forwarded-For<td>127.0.0.1\n" in added
    assert "<th>X-Mine<td>&lt;b&gt;\n" in sent
    assert "request number 2 of" in [demo.ask(Accept="text/html") for _ in range(3)][-1]


def test_a_browser_shows_it_and_asks_once(demo):
    assert "<h1>b1 answered</h1>" in browser(f"http://127.0.0.1:{demo.port}/")
    assert demo.ask().startswith("b2 ")


def test_the_head_of_it(demo):
    with closing(demo.connect()) as client:
        client.request("HEAD", "/")
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 0
        assert ask(client).startswith("b2 ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_others_answer_when_one_is_killed(demo, number):
    os.kill(demo.origins["b1"], number)
    eventually(lambda: not is_alive(demo.origins["b1"]))
    assert demo.names() == {"b2", "b3"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "its terminal is closed"])
def test_what_a_terminal_sends_ends_it_and_leaves_no_origin_behind(demo, number):
    assert all(is_alive(pid) for pid in demo.origins.values())
    os.killpg(demo.process.pid, number)
    assert demo.process.wait(TIMEOUT) == 0
    assert none_is_left(demo)


def test_it_has_no_file_to_read_anew_and_goes_on(demo):
    admin = re.search(r"http://(127\.0\.0\.1:\d+)/ +is the dashboard", demo.greeting)[1]
    done = command("ctl", "reload", "--wait", "--admin", admin)
    assert (done.returncode, done.stderr) == (
        1, "gproxy: the reload has failed; generation 1 goes on: there is no configuration file to read anew\n"
    )  # fmt: skip
    assert demo.names() == {"b1", "b2", "b3"}


def test_no_origin_outlives_a_demo_that_was_killed(demo):
    demo.process.kill()
    eventually(lambda: none_is_left(demo), what="the origins end")
