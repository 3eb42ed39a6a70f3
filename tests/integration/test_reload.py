"""SIGHUP: a new configuration takes effect, and no client notices."""

import contextlib
import os
import re
import signal
import socket
import textwrap
import threading

import pytest

from tests.support.ends import black_hole, read, read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

MOST_SETS = 10  # of workers that drain

CONFIG = """
load_balancer: {{drain_timeout: 3600, backend_check_interval: 3600}}
workers: {workers}
listeners:
  - {{name: web, bind: "127.0.0.1:0", upstream: app}}
  {more}
upstreams: {{app: {{backends: [{{name: {name}, address: "{address}"}}]}}}}
"""


def config(origin, workers=1, more=""):
    return CONFIG.format(workers=workers, more=more, name=origin.name, address=origin.address)


@pytest.fixture
def one():
    with Origin("hello", "one") as origin:
        yield origin


@pytest.fixture
def two():
    with Origin("hello", "two") as origin:
        yield origin


@pytest.fixture
def proxy(tmp_path, one):
    with Gproxy(tmp_path, config(one)) as proxy:
        yield proxy


def reload(proxy, text):
    """Put a new configuration into effect."""
    change(proxy, text)
    before = in_effect(proxy)
    proxy.signal(signal.SIGHUP)
    eventually(lambda: in_effect(proxy) > before, 20, what="the new configuration is in effect")


def change(proxy, text):
    proxy.config.write_text(textwrap.dedent(text))


def in_effect(proxy):
    return proxy.log().count("is ready: the new configuration is in effect")


def goes_to(proxy, name):
    """The old worker may accept a last client while it is told to drain."""
    eventually(lambda: who(proxy) == name)


def who(proxy, listener="web"):
    with proxy.connect(listener) as client:
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client).decode().strip()


def test_new_clients_go_where_the_new_configuration_says(proxy, two):
    assert who(proxy) == "one"
    address = proxy.address("web")
    reload(proxy, config(two))
    goes_to(proxy, "two")
    assert proxy.address("web") == address


def test_a_session_goes_on_and_its_worker_ends_after_it(tmp_path):
    with Origin("echo") as origin, Gproxy(tmp_path, config(origin)) as proxy, proxy.connect("web") as client:
        client.sendall(b"before")
        assert read(client, 6) == b"before"
        old = proxy.worker
        reload(proxy, config(origin, workers=2))
        for _ in range(3):
            client.sendall(b"after")
            assert read(client, 5) == b"after"
        os.kill(old, 0)  # it lives
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
        eventually(lambda: not os.path.exists(f"/proc/{old}"))
        assert set(proxy.processes()) == {"steward", "worker0", "worker1"}


def test_an_old_worker_does_not_linger_past_the_drain_timeout(tmp_path):
    with Origin("echo") as origin:
        short = config(origin).replace("drain_timeout: 3600", "drain_timeout: 0.5")
        with Gproxy(tmp_path, short) as proxy, proxy.connect("web") as client:
            client.sendall(b"word")
            assert read(client, 4) == b"word"
            old = proxy.worker
            reload(proxy, short)
            eventually(lambda: not os.path.exists(f"/proc/{old}"))
            with pytest.raises(ConnectionResetError):
                read_to_end(client)
            proxy.wait_for_log("worker 0: sessions that had to be closed: 1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listeners: nonsense", r"gproxy.yaml:1: listeners: "),
        ("lissteners: []", r"did you mean 'listeners'"),
        (None, r"gproxy.yaml: .*"),
    ],
    ids=["wrong type", "unknown key", "no file"],
)
def test_an_invalid_file_changes_nothing_but_the_log(proxy, text, said):
    processes = proxy.processes()
    if text is None:
        proxy.config.unlink()
    else:
        change(proxy, text)
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_log("the new configuration is not good, and the one before stays in effect")
    assert re.search(said, proxy.log())
    assert proxy.processes() == processes
    assert who(proxy) == "one"


def test_an_address_that_can_t_be_had_changes_nothing(proxy, one):
    processes = proxy.processes()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        more = f'- {{name: more, bind: "127.0.0.1:{taken.getsockname()[1]}", upstream: app}}'
        change(proxy, config(one, more=more))
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_log("cannot listen on .*: address already in use; the configuration before stays in effect")
    assert proxy.processes() == processes
    assert who(proxy) == "one"


def test_workers_that_can_t_start_change_nothing(proxy, one):
    processes = proxy.processes()
    change(proxy, config(one).replace("backends:", 'balance: {python: "nowhere:choose"}, backends:'))
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_log("could not be started, and the one before stays in effect: .*cannot load nowhere:choose")
    eventually(lambda: proxy.processes() == processes)
    assert who(proxy) == "one"
    reload(proxy, config(one))  # and the next one may be good


def test_listeners_come_and_go(proxy, one, two):
    more = '- {name: more, bind: "127.0.0.1:0", upstream: app}'
    reload(proxy, config(one, more=more))
    address = proxy.address("more")
    assert who(proxy, "more") == "one"
    reload(proxy, config(two))
    goes_to(proxy, "two")

    def refused():
        try:
            socket.create_connection(address).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(refused)


def test_the_backends_health_is_not_forgotten(tmp_path, one):
    gone = Origin("hello", "gone")
    down = config(one).replace("backends: [", f'backends: [{{name: gone, address: "{gone.address}"}}, ')
    gone.kill()
    with gone, Gproxy(tmp_path, down) as proxy:
        reload(proxy, down)
        log = proxy.log()
        assert log.count("backend app/gone is down") == log.count("backend app/one is up") == 1
        assert [who(proxy) for _ in range(4)] == ["one"] * 4
        assert "retried" not in proxy.log()


@pytest.mark.parametrize("workers", [(1, 3, 1), (3, 2, 1), (2, 4, 3)])
def test_no_client_is_lost_while_workers_come_and_go(tmp_path, one, workers):
    before, *then = workers
    with Gproxy(tmp_path, config(one, before)) as proxy, asking(proxy) as answers:
        for count in then:
            reload(proxy, config(one, count))
            eventually(lambda count=count: len(proxy.processes()) == count + 1)
        asked = len(answers)
        eventually(lambda: len(answers) > asked + 50)
        assert set(answers) == {"one"}


@contextlib.contextmanager
def asking(proxy):
    """A client that connects again and again, and what it got each time."""
    answers, over = [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                answers.append(who(proxy))
            except OSError as error:
                answers.append(repr(error))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield answers
    finally:
        over.set()
        asker.join()


def test_two_in_a_row_end_with_the_last_one(proxy, one, two):
    change(proxy, config(one, workers=2))
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_log("reloading")
    change(proxy, config(two, workers=3))
    proxy.signal(signal.SIGHUP)
    eventually(lambda: in_effect(proxy) == 2)
    goes_to(proxy, "two")
    eventually(lambda: set(proxy.processes()) == {"steward", "worker0", "worker1", "worker2"})


def test_one_behind_another_that_fails_is_not_forgotten(proxy, tmp_path, one, two):
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "slow.py").write_text("open('gate').read()\n")  # and there is no `choose` in it
    change(proxy, config(one).replace("backends:", 'balance: {python: "slow:choose"}, backends:'))
    proxy.signal(signal.SIGHUP)
    with open(tmp_path / "gate", "w"):  # which waits for its reader
        change(proxy, config(two))
        proxy.signal(signal.SIGHUP)
    proxy.wait_for_log("could not be started, and the one before stays in effect: .*slow:choose")
    eventually(lambda: in_effect(proxy) == 1, what="the second one is in effect")
    goes_to(proxy, "two")


HTTP = """
load_balancer: {drain_timeout: 3600}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {health_check: {type: none}, backends: ["${B1}"]}}
"""


def test_of_many_sets_of_old_workers_the_oldest_is_ended_by_a_reload_that_succeeds(tmp_path):
    with (
        Origin("echo") as origin,
        Gproxy(tmp_path, config(origin)) as proxy,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        while not (told := proxy.log().partition("too many workers still drain after earlier reloads: the oldest"))[1]:
            assert all(map(echoes, clients))
            clients.append(stack.enter_context(proxy.connect("web")))  # some share an old worker
            assert echoes(clients[-1])
            reload(proxy, config(origin))
            change(proxy, "nonsense")
            proxy.signal(signal.SIGHUP)
            eventually(lambda: proxy.log().count("is not good, and the one before stays") == in_effect(proxy))
        assert len(clients) > MOST_SETS
        assert told[0].count("configuration is in effect") == told[0].count("is not good") + 1  # a good one's turn
        with pytest.raises(ConnectionResetError):
            read_to_end(clients[0])
        assert echoes(clients[-1])


def echoes(client):
    client.sendall(b"word")
    return read(client, 4) == b"word"


def test_an_idle_keep_alive_client_is_told_to_leave_with_its_next_response(tmp_path):
    with (
        Origin("http") as origin,
        Gproxy(tmp_path, HTTP, environ={"B1": origin.address}) as proxy,
        proxy.connect("web") as client,
    ):
        assert b"Connection: close" not in ask(client)
        old = proxy.worker
        reload(proxy, HTTP)
        os.kill(old, 0)
        eventually(lambda: b"Connection: close\r\n" in ask(client))  # the next one since its worker has heard
        assert client.recv(1) == b""
        eventually(lambda: not os.path.exists(f"/proc/{old}"))


def test_an_idle_keep_alive_client_of_an_old_worker_does_not_hold_a_shutdown_up(tmp_path):
    with (
        Origin("http") as origin,
        Gproxy(tmp_path, HTTP, environ={"B1": origin.address}) as proxy,
        proxy.connect("web") as client,
    ):
        ask(client)
        reload(proxy, HTTP)
        proxy.signal(signal.SIGTERM)
        assert client.recv(1) == b""
        assert proxy.wait() == 0


def test_a_shutdown_takes_no_longer_than_the_new_drain_timeout(tmp_path):
    with Origin("echo") as origin, Gproxy(tmp_path, config(origin)) as proxy, proxy.connect("web") as client:
        client.sendall(b"word")
        assert read(client, 4) == b"word"
        reload(proxy, config(origin).replace("drain_timeout: 3600", "drain_timeout: 0.5"))
        assert proxy.stop() == 0
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
        assert "worker 0: sessions that had to be closed: 1" in proxy.log()


def test_a_reload_that_is_under_way_does_not_hold_a_shutdown_up(tmp_path, one):
    with black_hole() as silent, Gproxy(tmp_path, config(one)) as proxy:
        slow = config(one).replace(one.address, silent).replace("{app: {", "{app: {health_check: {timeout: 1h}, ")
        change(proxy, slow)
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_log("reloading")
        assert proxy.stop() == 0
        assert "error" not in proxy.log()
        assert proxy.log().splitlines()[-1].endswith("stopped")


def ask(client):
    """The response to a GET, head and body."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(body) < length:
        body += client.recv(65536)
    return data
