"""The admin API of a gproxy of two workers: what it shows, and that what it changes takes effect everywhere."""

import contextlib
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.admin import Admin
from tests.support.ends import read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
load_balancer: {backend_check_interval: 3600, drain_timeout: 3600}
workers: 2
admin: {bind: "127.0.0.1:0"}
log: {access: off}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams:
  app:
    backends: [{name: one, address: "${ONE}"}, {name: two, address: "${TWO}"}]
"""
BACKEND = "/v1/upstreams/app/backends/"
REQUESTS = 24  # each over a connection of its own: both workers get some


@pytest.fixture
def environ():
    with Origin("http", "one") as one, Origin("http", "two") as two:
        yield {"ONE": one.address, "TWO": two.address}


@pytest.fixture
def proxy(tmp_path, environ):
    with Gproxy(tmp_path, CONFIG, environ=environ) as proxy:
        yield proxy


@pytest.fixture
def admin(proxy):
    return Admin(proxy)


def served_by(proxy):
    """Who serves some clients, each as often as it does."""

    def fetch(_):
        connection = HTTPConnection(*proxy.address("web"), timeout=20)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            return response.read().decode().strip() if response.status == 200 else response.status
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(fetch, range(REQUESTS)))


def serve_soon(proxy, names):
    """Workers take some 0.1 s to see it."""
    eventually(lambda: set(served_by(proxy)) == names, 20, what=f"{names} serve")


def reloads(proxy):
    return proxy.log().count("the new configuration is in effect")


def test_the_state_tells_who_serves_what(proxy, admin, environ):
    assert set(served_by(proxy)) == {"one", "two"}

    state = eventually(lambda: (s := admin.get("/v1/state"))["sessions"] == 0 and s)

    assert [worker["slot"] for worker in state["workers"]] == [0, 1]
    [listener] = state["listeners"]
    host, port = proxy.address("web")
    assert (listener["name"], listener["address"], listener["mode"]) == ("web", f"{host}:{port}", "http")
    [upstream] = state["upstreams"]
    assert [(b["name"], b["address"], b["operational"], b["administrative"]) for b in upstream["backends"]] == [
        ("one", environ["ONE"], "up", "ready"),
        ("two", environ["TWO"], "up", "ready"),
    ]
    assert (state["generation"], state["master"], state["ending"]) == (1, proxy.process.pid, False)
    assert state["upstreams"][0]["backends"][0] == admin.backend("one")


def test_a_drained_backend_serves_nobody_new_across_a_reload_and_a_stewards_death(proxy, admin):
    assert admin.change("PUT", BACKEND + "one", {"administrative": "drain"})["administrative"] == "drain"
    serve_soon(proxy, {"two"})
    proxy.wait_for_log(r"127\.0\.0\.1:\d+ asked: backend app/one: administrative drain")

    admin.change("POST", "/v1/reload", {})
    eventually(lambda: admin.get("/v1/state")["generation"] == 2, 20)
    assert set(served_by(proxy)) == {"two"}

    steward = proxy.processes()["steward"]
    os.kill(steward, signal.SIGKILL)
    eventually(lambda: proxy.processes().get("steward", steward) != steward, 20)
    assert admin.backend("one")["administrative"] == "drain"

    admin.change("PUT", BACKEND + "one", {"administrative": "ready"})
    serve_soon(proxy, {"one", "two"})


def test_a_weight_counts_and_null_takes_it_back(proxy, admin):
    assert admin.change("PUT", BACKEND + "one", {"weight": 1000})["weight"] == 1000
    eventually(lambda: served_by(proxy).count("one") >= REQUESTS - 2, 20)
    found = admin.change("PUT", BACKEND + "one", {"weight": None})
    assert (found["weight"], found["configured_weight"]) == (1, 1)
    eventually(lambda: served_by(proxy).count("one") < REQUESTS - 4, 20)


@contextlib.contextmanager
def changed_amid_a_reload(proxy, admin, tmp_path):
    """The new generation has copied the board before it; its processes are ready after the block only."""
    (tmp_path / "slow.py").write_text(
        "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\ndef choose(backends, _request):\n"
        "    return backends[0]\n"
    )
    proxy.config.write_text(CONFIG.replace("  app:\n", "  app:\n    balance: {python: 'slow:choose'}\n"))
    admin.change("POST", "/v1/reload", {})
    proxy.wait_for_log("reloading")
    admin.change("PUT", BACKEND + "one", {"administrative": "maint"})
    yield
    (tmp_path / "go").touch()


def test_what_is_changed_while_a_reload_is_on_its_way_stays(proxy, admin, tmp_path):
    with changed_amid_a_reload(proxy, admin, tmp_path):
        pass
    eventually(lambda: admin.get("/v1/state")["generation"] == 2, 20)
    assert admin.backend("one")["administrative"] == "maint"
    serve_soon(proxy, {"two"})


@pytest.mark.parametrize("then", ["another reload", "the new steward's death"])
def test_it_stays_though_the_next_steward_could_not_take_it_over(proxy, admin, tmp_path, then):
    """Because the one before it had not ended yet."""
    before = proxy.processes()["steward"]
    with changed_amid_a_reload(proxy, admin, tmp_path):
        os.kill(before, signal.SIGSTOP)
    eventually(lambda: reloads(proxy) == 1, 20)
    if then == "another reload":
        proxy.signal(signal.SIGHUP)
        eventually(lambda: reloads(proxy) == 2, 20)
    else:
        stewards = set(children_called(proxy, "gproxy-steward")) - {before}
        os.kill(*stewards, signal.SIGKILL)
        eventually(lambda: set(children_called(proxy, "gproxy-steward")) - {before} - stewards, 20)
    os.kill(before, signal.SIGCONT)
    assert admin.backend("one")["administrative"] == "maint"
    serve_soon(proxy, {"two"})


def children_called(proxy, name):
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == name]


def test_an_ejected_backend_serves_nobody_until_it_is_readmitted(proxy, admin):
    admin.change("POST", BACKEND + "one/eject", {"seconds": 3600})
    serve_soon(proxy, {"two"})
    assert admin.backend("one")["ejected"] == 2
    assert admin.backend("one")["counters"]["ejections"] == 2

    admin.change("POST", BACKEND + "one/readmit", {})
    serve_soon(proxy, {"one", "two"})
    assert admin.backend("one")["ejected"] == 0


def test_a_pool_is_emptied(proxy, admin):
    served_by(proxy)
    eventually(lambda: admin.backend("one")["idle"] > 0)
    admin.change("POST", BACKEND + "one/empty-pool", {})
    eventually(lambda: admin.backend("one")["idle"] == 0)
    assert admin.backend("two")["idle"] > 0


def test_decisions_come_from_all_workers(proxy, admin):
    admin.change("PUT", BACKEND + "one", {"administrative": "drain"})
    serve_soon(proxy, {"two"})

    found = admin.get("/v1/decisions?last=100")

    assert (found["workers"], found["answered"]) == (2, 2)
    assert {decision["worker"] for decision in found["decisions"]} == {0, 1}
    latest = found["decisions"][0]
    assert (latest["backend"], latest["listener"], latest["upstream"]) == ("two", "web", "app")
    assert latest["excluded"] == [{"backend": "one", "reason": "draining"}]
    ages = [decision["ago"] for decision in found["decisions"]]
    assert ages == sorted(ages)
    assert len(admin.get("/v1/decisions?last=3")["decisions"]) == 3


def test_decisions_of_a_worker_that_stands_still_are_left_out(proxy, admin):
    served_by(proxy)
    with proxy.stopped():
        found = admin.get("/v1/decisions")
    assert (found["workers"], found["answered"]) == (2, 1)
    assert {decision["worker"] for decision in found["decisions"]} == {1}


def test_what_processes_hold_returns_to_what_it_was(proxy, admin):
    def held():
        found = admin.get("/v1/processes")
        assert found["answered"] == found["workers"] == 2
        return {each["process"]: each for each in found["processes"]}

    def sums(name):
        return sum(each[name] for each in held().values())

    admin.get("/v1/processes")
    before = {name: sums(name) for name in ("sessions", "open_files", "watchers")}
    assert list(held()) == ["steward", "worker0", "worker1"]
    assert {name: each["pid"] for name, each in held().items()} == proxy.processes()
    assert all(each["resident_bytes"] > 10_000_000 for each in held().values())
    clients = [proxy.connect("web") for _ in range(20)]
    try:
        eventually(lambda: sums("sessions") == 20)
        assert sums("open_files") >= before["open_files"] + 20
        assert sums("watchers") >= before["watchers"] + 20
    finally:
        for client in clients:
            client.close()
    eventually(lambda: {name: sums(name) for name in before} == before, 20, what=f"as before: {before}")


def test_another_log_level_is_for_all_processes(proxy, admin):
    assert admin.get("/v1/log") == {"level": "info"}
    assert admin.change("PUT", "/v1/log", {"level": "error"}) == {"level": "error"}
    assert admin.get("/v1/log") == {"level": "error"}
    proxy.signal(signal.SIGHUP)
    eventually(lambda: admin.get("/v1/state")["generation"] == 2, 20)
    assert "reloading" not in proxy.log()  # the master's
    assert admin.get("/v1/log") == {"level": "info"}


def test_metrics_are_sums_over_the_workers_and_go_on_across_a_reload(proxy, admin):
    def value(name):
        return int(re.search(rf"^{re.escape(name)} (\d+)$", admin.ask("GET", "/metrics").body.decode(), re.M)[1])

    requests, connects = 'gproxy_http_requests_total{listener="web"}', "gproxy_connections_accepted_total"
    served_by(proxy)
    eventually(lambda: value(requests) == REQUESTS)
    admin.change("POST", "/v1/reload", {})
    eventually(lambda: value("gproxy_generation") == 2, 20)
    assert (value(requests), value(connects)) == (REQUESTS, REQUESTS)
    served_by(proxy)
    eventually(lambda: value(requests) == 2 * REQUESTS)
    os.kill(proxy.processes()["steward"], signal.SIGKILL)
    assert value(connects) == 2 * REQUESTS


def test_health_is_503_when_nobody_can_serve_and_while_it_ends(proxy, admin):
    assert admin.ask("GET", "/v1/health").status == 200
    for name in ("one", "two"):
        admin.change("PUT", BACKEND + name, {"administrative": "maint"})
    reply = admin.ask("GET", "/v1/health")
    assert (reply.status, reply.json) == (503, {"status": "unavailable"})
    admin.change("PUT", BACKEND + "one", {"administrative": "ready"})
    assert admin.ask("GET", "/v1/health?upstream=app").status == 200
    assert admin.ask("GET", "/v1/health?upstream=ap").status == 404

    with proxy.connect("web") as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")  # it will end when it says so
        eventually(lambda: admin.get("/v1/state")["sessions"] == 1)
        proxy.signal(signal.SIGTERM)
        eventually(lambda: admin.ask("GET", "/v1/health").status == 503)
        client.sendall(b"x")
        read_to_end(client)
    assert proxy.wait() == 0


def test_a_reload_that_fails_leaves_it_and_one_may_turn_it_off(proxy, admin):
    first = admin.address
    proxy.config.write_text(CONFIG.replace('admin: {bind: "127.0.0.1:0"}', "admin: {bind: 'unix:/tmp/nowhere/admin'}"))
    admin.change("POST", "/v1/reload", {})
    proxy.wait_for_log("cannot listen on")
    assert admin.get("/v1/state")["generation"] == 1

    proxy.config.write_text(CONFIG.replace('admin: {bind: "127.0.0.1:0"}', ""))
    admin.change("POST", "/v1/reload", {})
    eventually(lambda: reloads(proxy) == 1, 20)

    def is_free():
        with socket.socket() as probe:
            return probe.connect_ex(first) != 0

    eventually(is_free)


def test_the_state_tells_how_the_last_reload_went(proxy, admin):
    def reload():
        """The outcome, without its age."""
        before = admin.get("/v1/state")["reload"]
        admin.change("POST", "/v1/reload", {})
        number = (before or {"number": 0})["number"] + 1

        def over():
            now = admin.get("/v1/state")["reload"]
            return now is not None and now["number"] == number and now["outcome"] != "running" and now

        found = eventually(over, 20)
        assert 0 <= found.pop("ago") < 20
        return found

    assert admin.get("/v1/state")["reload"] is None
    assert reload() == {"number": 1, "outcome": "done", "why": None}

    proxy.config.write_text(CONFIG.replace("workers: 2", "worker: 2"))
    failed = reload()
    assert (failed["number"], failed["outcome"]) == (2, "failed")
    assert "worker: unknown key 'worker'; did you mean 'workers'?" in failed["why"]
    steward = proxy.processes()["steward"]
    os.kill(steward, signal.SIGKILL)
    eventually(lambda: proxy.processes().get("steward", steward) != steward, 20)
    assert admin.get("/v1/state")["reload"]["outcome"] == "failed"

    proxy.config.write_text(CONFIG.replace("  app:\n", "  app:\n    balance: {python: 'nowhere:choose'}\n"))
    failed = reload()
    assert (failed["number"], failed["outcome"]) == (3, "failed")
    assert "nowhere" in failed["why"]
    assert admin.get("/v1/state")["generation"] == 2


def test_the_state_counts_what_passes(proxy, admin):
    served_by(proxy)

    def counted():
        state = admin.get("/v1/state")
        return state["listeners"][0]["counters"]["responses_2xx"] == REQUESTS and state["sessions"] == 0 and state

    state = eventually(counted, 20)
    assert state["counters"]["connections_accepted"] == REQUESTS
    assert state["counters"]["bytes_out"] > 0
    assert state["listeners"][0]["counters"]["requests"] == REQUESTS
    assert sum(bucket["count"] for bucket in state["durations"]["response"]) == REQUESTS
    assert all(0 < bucket["seconds"] < 20 for bucket in state["durations"]["response"])


def test_a_backend_that_is_called_as_its_unix_socket(tmp_path, environ):
    text = CONFIG.replace('{name: two, address: "${TWO}"}', '"unix:/tmp/nobody/here"')
    with Gproxy(tmp_path, text, environ=environ) as proxy:
        admin = Admin(proxy)
        path = BACKEND + "unix:%2Ftmp%2Fnobody%2Fhere"
        assert admin.change("PUT", path, {"weight": 3})["name"] == "unix:/tmp/nobody/here"
        assert "eject" in admin.change("POST", f"{path}/eject", {"seconds": 1})["done"]


def test_an_upgrade_keeps_the_address(proxy, admin):
    address = admin.address
    proxy.signal(signal.SIGUSR2)
    proxy.wait(20)
    assert admin.address == address
    state = admin.get("/v1/state")
    assert state["master"] != proxy.process.pid
    os.kill(state["master"], signal.SIGTERM)
    eventually(lambda: not os.path.exists(f"/proc/{state['master']}"), 20)


def test_a_unix_socket_tells_who_asked(tmp_path, environ):
    path = tmp_path / "admin.sock"
    text = CONFIG.replace('"127.0.0.1:0"}\nlog', f'"unix:{path}"}}\nlog')
    with Gproxy(tmp_path, text, environ=environ) as proxy:
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            body = b'{"level":"info"}'
            client.sendall(
                b"PUT /v1/log HTTP/1.1\r\nHost: anything\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            assert read_to_end(client).startswith(b"HTTP/1.1 200 ")
        proxy.wait_for_log(f"user {os.getuid()} asked: log level: info")
        proxy.stop()
        assert not path.exists()


def test_a_token_is_asked_for_and_not_logged(tmp_path, environ):
    token = "0123456789-abcdef"
    text = CONFIG.replace('admin: {bind: "127.0.0.1:0"}', 'admin: {bind: "127.0.0.1:0", token: "${TOKEN}"}')
    with Gproxy(tmp_path, text, environ=environ | {"TOKEN": token}) as proxy:
        admin = Admin(proxy, token)
        assert admin.get("/v1/state")["generation"] == 1
        stranger = Admin(proxy)
        reply = stranger.ask("GET", "/v1/state")
        assert (reply.status, reply.fields["www-authenticate"]) == (401, "Bearer")
        assert stranger.ask("GET", "/v1/state", Authorization=f"Bearer {token}x").status == 401
        assert stranger.ask("PUT", BACKEND + "one", {"weight": 2}).status == 401
        assert stranger.ask("GET", "/metrics").status == 401
        assert stranger.ask("GET", "/v1/health").status == 200
        assert token not in proxy.log()


def test_what_is_no_good_is_refused_with_a_reason(admin):
    def error(method, path, body=None, **fields):
        reply = admin.ask(method, path, body, **fields)
        assert reply.fields["cache-control"] == "no-store"
        return reply.status, reply.json["error"]

    assert error("GET", "/v1/upstreams/ap/backends/one") == (404, "there is no upstream 'ap'")
    assert error("GET", BACKEND + "three") == (404, "upstream 'app' has no backend 'three'")
    assert error("GET", "/v2") == (404, "there is nothing at '/v2'; /v1/openapi.json lists what there is")
    assert error("DELETE", BACKEND + "one") == (405, "'DELETE' is not for this; GET, HEAD, PUT is")
    assert error("PUT", BACKEND + "one", b"{")[0] == 400
    assert error("PUT", BACKEND + "one", {"weight": 0}) == (400, "weight must be from 1 to 1000")
    assert error("PUT", BACKEND + "one", {"weigth": 1})[0] == 400
    assert error("PUT", BACKEND + "one", {}) == (
        400, "the body must have one of the members administrative, weight"
    )  # fmt: skip
    assert error("POST", BACKEND + "one/eject", {"seconds": True}) == (400, "seconds must be a number")
    assert error("PUT", BACKEND + "one", b" " * 70_000)[0] == 413
    assert error("PUT", BACKEND + "one", {"weight": 2}, Content_Type="text/plain")[0] == 415
    assert error("PUT", BACKEND + "one", {"weight": 2}, Origin="http://evil.example")[0] == 403
    assert error("PUT", BACKEND + "one", {"weight": 2}, Sec_Fetch_Site="cross-site")[0] == 403
    assert error("GET", "/v1/state", Host="evil.example")[0] == 421
    assert error("GET", "/v1/state", Accept="text/html") == (406, "this is application/json")
    assert error("GET", "/v1/decisions?last=0") == (400, "last must be a whole number from 1 to 100")
    assert admin.backend("one")["weight"] == 1


def test_a_slow_client_keeps_nobody_out(admin):
    slow = [socket.create_connection(admin.address, 20) for _ in range(30)]
    try:
        for client in slow:
            client.sendall(b"GET /v1/state HTTP/1.1\r\nHost: localhost")
        assert admin.get("/v1/log") == {"level": "info"}
    finally:
        for client in slow:
            client.close()
