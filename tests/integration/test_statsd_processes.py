"""StatsD is told of every request once, whichever processes come and go meanwhile."""

import contextlib
import os
import signal

import pytest

from tests.integration.test_reload import ask
from tests.integration.test_statsd import Statsd
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, processes_of, wait_until_stopped

CONFIG = """
workers: 2
pid_file: gproxy.pid
load_balancer: {{metrics_interval: 100ms, drain_timeout: 30}}
statsd: {{port: {port}, prefix: lb}}
listeners: [{{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}}]
upstreams: {{app: {{health_check: {{type: none}}, backends: ["{backend}"]}}}}
"""
NAME = "lb.requests.web"


@pytest.fixture
def statsd():
    statsd = Statsd()
    yield statsd
    statsd.close()


@pytest.fixture
def proxy(tmp_path, statsd):
    with (
        Origin("http") as origin,
        Gproxy(tmp_path, CONFIG.format(port=statsd.port, backend=origin.address)) as proxy,
    ):
        yield proxy


def request(proxy, count):
    """So many requests, each on a connection of its own."""
    for _ in range(count):
        with proxy.connect("web") as client:
            ask(client)


def told_exactly(statsd, count):
    eventually(lambda: statsd.counters[NAME] >= count, 20)
    pushes = len(statsd.datagrams)
    eventually(lambda: len(statsd.datagrams) > pushes + 4, 20, "a few more pushes came")
    assert statsd.counters[NAME] == count


def reload(proxy):
    before = proxy.log().count("is ready: the new configuration is in effect")
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.log().count("is ready: the new configuration is in effect") > before, 20)


def replaced(proxy, name, victim):
    eventually(lambda: proxy.processes().get(name, victim) != victim, 20)


def test_reloads(proxy, statsd):
    for _ in range(4):
        request(proxy, 10)
        reload(proxy)
        request(proxy, 5)
    told_exactly(statsd, 60)


def test_a_reload_whose_old_steward_pushes_late(proxy, statsd):
    request(proxy, 20)
    steward = proxy.processes()["steward"]
    os.kill(steward, signal.SIGSTOP)
    wait_until_stopped(steward)
    request(proxy, 20)
    reload(proxy)
    eventually(lambda: set(proxy.processes()) == {"steward", "worker0", "worker1"}, what="the old workers have ended")
    request(proxy, 100)  # and some time goes by
    os.kill(steward, signal.SIGCONT)
    told_exactly(statsd, 140)


def test_a_session_of_an_old_worker_that_outlives_several_reloads(proxy, statsd):
    with proxy.connect("web") as client:
        client.sendall(b"GET / HTTP/1.1\r\n")  # a request under way keeps its worker
        for _ in range(2):
            reload(proxy)
        request(proxy, 3)
        client.sendall(b"Host: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    told_exactly(statsd, 4)


def test_a_steward_that_dies(proxy, statsd):
    request(proxy, 10)
    victim = proxy.processes()["steward"]
    os.kill(victim, signal.SIGKILL)
    request(proxy, 10)
    replaced(proxy, "steward", victim)
    request(proxy, 10)
    told_exactly(statsd, 30)


def test_an_old_generation_that_ends_while_there_is_no_steward(proxy, statsd):
    with proxy.connect("web") as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        reload(proxy)
        eventually(lambda: any(name.startswith("drain") for name in proxy.processes()))
        for _ in range(2):  # the second one is replaced later
            victim = proxy.processes()["steward"]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda victim=victim: victim not in proxy.processes().values())
            if "in 0.5 s" not in proxy.log():
                replaced(proxy, "steward", victim)
        client.sendall(b"Host: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    request(proxy, 3)
    told_exactly(statsd, 4)


def test_a_worker_that_dies_loses_nothing_that_was_counted_a_while_ago(proxy, statsd):
    request(proxy, 20)
    told_exactly(statsd, 20)  # the workers have added it up
    victim = proxy.worker
    with proxy.connect("web") as first, proxy.connect("web") as second:
        statsd.wait_for(**{"lb.active_connections_total": 2})
        os.kill(victim, signal.SIGKILL)
        replaced(proxy, "worker0", victim)
        left = sum(not is_closed(client) for client in (first, second))
        statsd.wait_for(**{"lb.active_connections_total": left})
    told_exactly(statsd, 20)
    request(proxy, 5)
    told_exactly(statsd, 25)


def is_closed(client):
    client.setblocking(False)
    try:
        return not client.recv(1)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_an_upgrade(proxy, statsd, tmp_path):
    request(proxy, 10)
    os.kill(proxy.process.pid, signal.SIGUSR2)
    assert proxy.wait() == 0
    new = int((tmp_path / "gproxy.pid").read_text())
    try:
        request(proxy, 10)
        told_exactly(statsd, 20)
    finally:
        os.kill(new, signal.SIGTERM)
        with contextlib.suppress(FileNotFoundError):
            eventually(lambda: not processes_of(new), 20)
