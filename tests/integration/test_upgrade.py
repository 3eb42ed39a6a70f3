"""SIGUSR2: a new master takes over the sockets, and no client notices."""

import os
import re
import signal
import socket
import textwrap

import pytest

from tests.integration.test_reload import asking, who
from tests.support.ends import black_hole, read, read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, processes_of

CONFIG = """
workers: 2
pid_file: {pid_file}
load_balancer: {{drain_timeout: 60}}
listeners:
  - {{name: web, bind: "127.0.0.1:0", upstream: app}}
  - {{name: local, bind: "unix:{path}", upstream: app}}
upstreams: {{app: {{backends: [{{name: one, address: "{address}"}}]}}}}
"""


@pytest.fixture
def origin():
    with Origin("hello", "one") as origin:
        yield origin


@pytest.fixture
def text(tmp_path, origin):
    return CONFIG.format(pid_file=tmp_path / "pid", path=tmp_path / "sock", address=origin.address)


@pytest.fixture
def proxy(tmp_path, text):
    with Gproxy(tmp_path, text) as proxy:
        yield proxy
        pid = int((tmp_path / "pid").read_text()) if (tmp_path / "pid").exists() else proxy.process.pid
        if pid != proxy.process.pid:
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not os.path.exists(f"/proc/{pid}") or is_zombie(pid), 20)


def is_zombie(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"


def upgrade(tmp_path):
    """The new master's process id."""
    old = int((tmp_path / "pid").read_text())
    os.kill(old, signal.SIGUSR2)
    eventually(lambda: int((tmp_path / "pid").read_text()) != old, 20, "there is a new master")
    return int((tmp_path / "pid").read_text())


def test_the_new_master_serves_on_the_same_sockets_and_the_old_one_ends(proxy, tmp_path):
    with asking(proxy) as answers:
        upgrade(tmp_path)
        assert proxy.wait() == 0
        asked = len(answers)
        eventually(lambda: len(answers) > asked + 50)
        assert set(answers) == {"one"}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "sock"))
        assert read(client, 4) == b"one\n"


def test_it_can_be_done_again(proxy, tmp_path):
    with asking(proxy) as answers:
        masters = [upgrade(tmp_path) for _ in range(3)]
        assert len(set(masters)) == 3
        assert set(answers) == {"one"}


def test_a_session_goes_on_with_the_old_one(proxy, tmp_path):
    with proxy.connect("web") as client:
        assert read(client, 4) == b"one\n"
        upgrade(tmp_path)
        client.sendall(b"still there")
        assert read(client, 11) == b"still there"
        assert proxy.process.poll() is None
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    assert proxy.wait() == 0
    assert who(proxy) == "one"


def test_one_that_does_not_start_leaves_everything_as_it_was(proxy, tmp_path, text):
    processes = proxy.processes()
    proxy.config.write_text("nonsense")
    proxy.signal(signal.SIGUSR2)
    proxy.wait_for_log("the upgrade has failed: the new master ended with status 2; this one goes on")
    assert int((tmp_path / "pid").read_text()) == proxy.process.pid
    assert proxy.processes() == processes
    assert who(proxy) == "one"
    proxy.config.write_text(textwrap.dedent(text))
    upgrade(tmp_path)
    assert who(proxy) == "one"


def test_one_that_fails_after_it_has_the_sockets_leaves_them_alone(proxy, tmp_path, text):
    bad = textwrap.dedent(text).replace("backends:", 'balance: {python: "nowhere:at_all"}, backends:')
    proxy.config.write_text(bad)
    proxy.signal(signal.SIGUSR2)
    proxy.wait_for_log("the upgrade has failed: the new master ended with status 2; this one goes on")
    assert who(proxy) == "one"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "sock"))
        assert read(client, 4) == b"one\n"


def test_the_new_configuration_counts(proxy, tmp_path, text):
    proxy.config.write_text(textwrap.dedent(text).replace("workers: 2", "workers: 3"))
    pid = upgrade(tmp_path)
    assert set(processes_of(pid)) == {"steward", "worker0", "worker1", "worker2"}


def test_one_that_fails_late_takes_no_unix_socket_with_it(proxy, tmp_path, text):
    proxy.config.write_text(
        textwrap.dedent(text).replace("backends:", 'balance: {python: "nowhere:choose"}, backends:')
    )
    proxy.signal(signal.SIGUSR2)
    proxy.wait_for_log("the upgrade has failed: the new master ended with status 2; this one goes on")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "sock"))
        assert read(client, 4) == b"one\n"


def test_who_is_asked_to_stop_meanwhile_takes_the_new_master_along(proxy, tmp_path, text):
    with black_hole() as silent:
        one = re.search(r"address: \"(.*)\"", text)[1]
        slow = textwrap.dedent(text).replace(one, silent).replace("{app: {", "{app: {health_check: {timeout: 1h}, ")
        proxy.config.write_text(slow)
        proxy.signal(signal.SIGUSR2)
        new = eventually(lambda: proxy.processes().get("gproxy"), 20, "there is a new master")
        eventually(lambda: "worker0" in processes_of(new), 20, "it starts its workers")
        assert proxy.stop() == 0
        eventually(lambda: not os.path.exists(f"/proc/{new}") or is_zombie(new), 20, "the new master ends, too")
    assert not (tmp_path / "sock").exists()
    assert not (tmp_path / "pid").exists()
