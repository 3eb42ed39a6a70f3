"""Several worker processes under one master: who serves, who dies, who takes the place."""

import contextlib
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support.ends import read, read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, wait_until_stopped

CONFIG = """
workers: 3
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""
CLIENTS = 30  # on three sockets: that one of them gets none happens once in 60,000 times
EVERYBODY = {"steward", "worker0", "worker1", "worker2"}


@pytest.fixture
def origin():
    with Origin("echo") as origin:
        yield origin


@pytest.fixture
def proxy(tmp_path, origin):
    with Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        yield proxy


@pytest.fixture
def connect():
    """Many clients of a proxy, which are closed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda proxy: [stack.enter_context(proxy.connect("web")) for _ in range(CLIENTS)]


def echoes(client):
    client.sendall(b"word")
    return read(client, 4) == b"word"


def serves(proxy):
    """Whether it serves every one of many new clients."""
    for _ in range(CLIENTS):
        with proxy.connect("web") as client:
            if not echoes(client):
                return False
    return True


def served_by(proxy, clients):
    """How many of the clients each worker serves."""
    ports = {client.getsockname()[1] for client in clients}
    found = {}
    for name, pid in proxy.processes().items():
        links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        mine = [row for row in rows if f"socket:[{row[9]}]" in links and int(row[2].split(":")[1], 16) in ports]
        found[name] = len(mine)
    return found


def test_the_kernel_shares_the_clients_out(proxy, connect):
    clients = connect(proxy)
    assert all(map(echoes, clients))
    served = served_by(proxy, clients)
    assert set(served) == EVERYBODY
    assert served.pop("steward") == 0
    assert all(served.values())
    assert sum(served.values()) == CLIENTS


def test_a_worker_that_dies_is_replaced_and_the_others_sessions_go_on(proxy, connect):
    clients = connect(proxy)
    assert all(map(echoes, clients))
    lost, victim = served_by(proxy, clients)["worker1"], proxy.processes()["worker1"]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: proxy.processes().get("worker1", victim) != victim)
    broken = 0
    for client in clients:
        try:
            broken += not echoes(client)
        except (ConnectionError, AssertionError):
            broken += 1
    assert broken == lost
    assert serves(proxy)
    assert re.findall(r"worker 1, process (\d+), was killed by SIGKILL; another one starts at once", proxy.log()) == [
        str(victim)
    ]


def test_a_client_in_the_backlog_of_a_dead_worker_is_served_by_the_next_one(tmp_path, origin):
    one = CONFIG.replace("workers: 3", "workers: 1")
    with Gproxy(tmp_path, one, environ={"B1": origin.address}) as proxy:
        victim = proxy.worker
        os.kill(victim, signal.SIGSTOP)
        wait_until_stopped(victim)
        with proxy.connect("web") as client:
            client.sendall(b"word")
            os.kill(victim, signal.SIGKILL)
            assert read(client, 4) == b"word"


def test_one_that_dies_again_and_again_is_replaced_more_and_more_slowly(proxy):
    for _ in range(3):
        victim = proxy.processes()["worker0"]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda victim=victim: proxy.processes().get("worker0", victim) != victim)
    delays = re.findall(r"worker 0, .*; another one starts (.*)", proxy.log())
    assert delays == ["at once", "in 0.5 s", "in 1 s"]
    assert serves(proxy)


def test_children_leave_signals_to_their_master(proxy, connect):
    clients = connect(proxy)
    before = proxy.processes()
    for child in before.values():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(child, number)
    assert all(map(echoes, clients))
    assert serves(proxy)
    assert proxy.processes() == before


def test_one_that_gives_no_sign_of_life_is_replaced(tmp_path, origin):
    impatient = CONFIG + "worker_timeout: 1.5\nhub_watchdog: 0.5\n"
    with Gproxy(tmp_path, impatient, environ={"B1": origin.address}) as proxy:
        victim = proxy.processes()["worker0"]
        os.kill(victim, signal.SIGSTOP)
        proxy.wait_for_log(rf"worker 0, process {victim}, gave no sign of life")
        eventually(lambda: proxy.processes().get("worker0", victim) != victim)
        assert serves(proxy)


HELD = """health_check: {type: none}, balance: {python: "sluggish:choose"},
  backends: [{name: b2, address: "127.0.0.1:1"}, """
POLICY = """
def choose(candidates, request):
    while True:
        pass
"""


def test_one_that_a_policy_holds_is_reported_with_its_stack_and_replaced(tmp_path, origin):
    (tmp_path / "sluggish.py").write_text(POLICY)
    held = CONFIG.replace("workers: 3", "workers: 1\nworker_timeout: 1.5\nhub_watchdog: 0.3").replace(
        "backends: [", HELD
    )
    with Gproxy(tmp_path, held, environ={"B1": origin.address}) as proxy:
        victim = proxy.worker
        with proxy.connect("web") as client:
            proxy.wait_for_log(rf"worker 0, process {victim}, gave no sign of life for . s, and is killed; it was at")
            proxy.wait_for_log(r'File ".*/sluggish.py", line . in choose')
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        eventually(lambda: proxy.processes().get("worker0", victim) != victim)


SLOW = """
import time

def choose(candidates, request):
    time.sleep(1)
    return candidates[-1]
"""


def test_a_policy_that_holds_the_loop_for_a_while_is_reported_with_its_stack(tmp_path, origin):
    (tmp_path / "sluggish.py").write_text(SLOW)
    held = CONFIG.replace("workers: 3", "workers: 1\nhub_watchdog: 0.3").replace("backends: [", HELD)
    with Gproxy(tmp_path, held, environ={"B1": origin.address}) as proxy, proxy.connect("web") as client:
        assert echoes(client)
        proxy.wait_for_log(r"error gproxy.watchdog\[\d+\]: the event loop was held for \S+ s or more, .* by choose ")
        proxy.wait_for_log(r'File ".*/sluggish.py", line . in choose')


def test_without_the_steward_clients_are_served_until_there_is_another_one(proxy, connect):
    clients = connect(proxy)
    victim = proxy.processes()["steward"]
    os.kill(victim, signal.SIGKILL)
    assert all(map(echoes, clients))
    eventually(lambda: proxy.processes().get("steward", victim) != victim)
    assert proxy.log().count("backend app/b1 is up") == 1  # it was never unknown again


def test_no_worker_survives_its_master(proxy):
    children = proxy.processes().values()
    with proxy.connect("web") as client:
        assert echoes(client)
        proxy.signal(signal.SIGKILL)
        proxy.wait()
    eventually(lambda: not any(_lives(pid) for pid in children), 20)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_the_steward_finds_out_reaches_every_worker(tmp_path, origin):
    two = """
    workers: 3
    listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
    load_balancer: {backend_check_interval: 0.1, backend_failure_threshold: 1}
    upstreams:
      app:
        retries: 0
        passive_health: {connect_failures: 0}
        backends: [{name: b1, address: "${B1}"}, {name: b2, address: "${B2}"}]
    """
    other = Origin("echo")
    with other, Gproxy(tmp_path, two, environ={"B1": origin.address, "B2": other.address}) as proxy:
        other.kill()
        proxy.wait_for_log("backend app/b2 is down")
        workers = [name for name in proxy.processes() if name != "steward"]
        assert len(workers) == 3

        def everybody_knows():
            try:
                return serves(proxy)
            except (ConnectionError, AssertionError):
                return False

        eventually(everybody_knows)
        assert everybody_knows()


def test_workers_share_a_unix_socket(tmp_path, origin):
    path = tmp_path / "web.sock"
    with Gproxy(tmp_path, CONFIG.replace("127.0.0.1:0", f"unix:{path}"), environ={"B1": origin.address}) as proxy:
        for _ in range(CLIENTS):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                assert echoes(client)
        os.kill(proxy.worker, signal.SIGKILL)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert echoes(client)
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client) == b""
        assert proxy.stop() == 0
    assert not path.exists()
