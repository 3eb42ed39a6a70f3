"""`gproxy ctl` beside a gproxy of two workers: each command, what it prints, and its exit status."""

import json
import os
import socket
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from tests.support.admin import Admin
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, command_environ, gproxy

CONFIG = """
load_balancer: {backend_check_interval: 3600, drain_timeout: 3600}
workers: 2
admin: {bind: "127.0.0.1:0"}
log: {access: off}
listeners:
  - {name: web, bind: "127.0.0.1:0", mode: http, upstream: app}
  - {name: raw, bind: "127.0.0.1:0", mode: tcp, upstream: any}
upstreams:
  app: {backends: [{name: one, address: "${ONE}"}, {name: two, address: "${TWO}"}]}
  any: {backends: [{name: one, address: "${ONE}"}, {name: two, address: "${TWO}"}]}
"""


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


@pytest.fixture
def ctl(tmp_path, admin):
    """Runs a command that is granted; what it prints."""
    host, port = admin.address

    def run(*arguments, status=0):
        done = gproxy(tmp_path, "ctl", "--admin", f"{host}:{port}", *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done
        return done.stdout if status == 0 else done.stderr or done.stdout

    return run


def fetch(proxy, listener):
    """Who serves one client."""
    connection = HTTPConnection(*proxy.address(listener), timeout=20)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


def served_by(proxy, names, listener="web"):
    return {fetch(proxy, listener) for _ in range(4)} == names


def test_status_is_a_table_for_people_and_the_state_for_scripts(proxy, admin, ctl, environ):
    text = ctl("status")
    assert f"process {proxy.process.pid}" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["app/one", environ["ONE"], "up", "1"] in [row[:4] for row in rows]
    assert ["app", "round_robin", "yes"] in rows
    assert ctl("status", "app/two").splitlines()[1].split()[:3] == ["app/two", environ["TWO"], "up"]

    assert json.loads(ctl("status", "--json")).keys() == admin.get("/v1/state").keys()
    assert json.loads(ctl("status", "app/two", "--json")) == admin.backend("two")


def test_drain_ready_and_maint(proxy, ctl):
    assert ctl("drain", "app/one") == "app/one: up, drain; connections in use: 0\n"
    eventually(lambda: served_by(proxy, {"two"}), 20)
    assert json.loads(ctl("maint", "app/one", "--json"))["administrative"] == "maint"
    assert ctl("ready", "app/one") == "app/one: up; connections in use: 0\n"
    eventually(lambda: served_by(proxy, {"one", "two"}), 20)


def test_drain_waits_for_the_last_connection_while_others_are_served(tmp_path, proxy, admin):
    host, port = admin.address
    admin.change("PUT", "/v1/upstreams/any/backends/two", {"administrative": "drain"})
    eventually(lambda: served_by(proxy, {"one"}, "raw"), 20)
    with proxy.connect("raw") as client:
        eventually(lambda: admin.backend("one", "any")["active"] == 1, 20)
        admin.change("PUT", "/v1/upstreams/any/backends/two", {"administrative": "ready"})

        command = [sys.executable, "-m", "gproxy", "ctl", "--admin", f"{host}:{port}", "drain", "any/one", "--wait"]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, env=command_environ(), cwd=tmp_path, text=True)
        try:
            eventually(lambda: served_by(proxy, {"two"}, "raw"), 20)
            eventually(lambda: admin.backend("one", "any")["active"] == 1, 20, what="only ours is left")
            assert waiting.poll() is None
            client.close()
            eventually(lambda: served_by(proxy, {"two"}, "raw") and waiting.poll() is not None, 20)
        finally:
            waiting.kill()
            said, _ = waiting.communicate(timeout=20)
    assert (waiting.returncode, said) == (0, "any/one: up, drain; connections in use: 0\n")


def test_drain_that_takes_too_long(proxy, admin, ctl):
    with proxy.connect("raw"):
        busy = eventually(lambda: [n for n in ("one", "two") if admin.backend(n, "any")["active"]], 20)[0]
        said = ctl("drain", f"any/{busy}", "--wait", "--timeout", "100ms", status=1)
        assert said == f"gproxy: not within 0.1 s: any/{busy}: connections in use: 1, still drain\n"
    assert admin.backend(busy, "any")["administrative"] == "drain"


def test_weight(ctl):
    assert ctl("weight", "app/one", "5") == "app/one: weight 5, configured 1\n"
    assert ctl("weight", "app/one", "default") == "app/one: weight 1, configured 1\n"
    assert ctl("weight", "app/one", "0", status=1) == "gproxy: weight must be from 1 to 1000\n"


def test_eject_readmit_and_empty_pool(proxy, admin, ctl):
    assert ctl("eject", "app/one", "--for", "1h") == "app/one: the workers are told: eject for 3600 s\n"
    eventually(lambda: served_by(proxy, {"two"}), 20)
    assert ctl("readmit", "app/one") == "app/one: the workers are told: readmit\n"
    eventually(lambda: served_by(proxy, {"one", "two"}), 20)
    eventually(lambda: admin.backend("one")["idle"], 20)
    assert json.loads(ctl("empty-pool", "app/one", "--json")) == {"done": "the workers are told: empty its pools"}
    eventually(lambda: not admin.backend("one")["idle"], 20)


def test_log(ctl):
    assert ctl("log") == "info\n"
    assert ctl("log", "debug") == "debug\n"
    assert json.loads(ctl("log", "--json")) == {"level": "debug"}


def test_reload_tells_how_it_went(proxy, ctl):
    assert ctl("reload", "--wait") == "the new configuration is in effect, as generation 2\n"
    found = json.loads(ctl("reload", "--wait", "--json"))
    assert (found["generation"], found["reload"]["outcome"]) == (3, "done")

    proxy.config.write_text(CONFIG.replace("workers", "worker"))
    said = ctl("reload", "--wait", status=1)
    assert said.startswith("gproxy: the reload has failed; generation 3 goes on: ")
    assert "unknown key 'worker'; did you mean 'workers'?" in said
    assert ctl("reload") == "the master reads its configuration\n"


def test_decisions(proxy, ctl):
    ctl("drain", "app/one")
    told = ["127.0.0.1", "web", "app/two", "one:", "draining"]

    def rows():
        """Of two more requests: the first ones may meet a worker that has not heard of the drain yet."""
        fetch(proxy, "web")
        fetch(proxy, "web")
        _, *found = ctl("decisions", "--last", "2").splitlines()
        return [row.split()[3:] for row in found]

    eventually(lambda: rows() == [told, told], 20)
    assert len(json.loads(ctl("decisions", "--json"))["decisions"]) >= 2
    assert ctl("decisions", "--last", "0", status=1) == "gproxy: last must be a whole number from 1 to 100\n"


def test_health_is_told_by_the_exit_status_too(ctl):
    assert ctl("health") == "ok\n"
    for name in ("one", "two"):
        ctl("maint", f"app/{name}")
    assert ctl("health", "app", status=1) == "unavailable\n"
    assert ctl("health") == "ok\n"  # the other upstream is
    assert json.loads(ctl("health", "app", "--json", status=1)) == {"status": "unavailable"}


def test_processes(proxy, ctl):
    pids = {line.split()[1] for line in ctl("processes").splitlines()[1:]}
    assert pids == {str(pid) for pid in proxy.processes().values()}


def test_metrics_and_the_description_of_the_api(ctl):
    assert "\ngproxy_sessions 0\n" in ctl("metrics")
    assert json.loads(ctl("openapi"))["openapi"] == "3.1.0"


def test_a_name_that_is_not_known(ctl):
    assert (
        ctl("drain", "app/onne", status=1) == "gproxy: upstream 'app' has no backend 'onne'; did you mean 'app/one'?\n"
    )
    assert ctl("eject", "zzz/yyy", status=1) == "gproxy: there is no upstream 'zzz'\n"
    assert ctl("health", "ap", status=1) == "gproxy: there is no upstream 'ap'; did you mean 'app'?\n"


def test_nobody_listens_and_a_wrong_command_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    done = gproxy(tmp_path, "ctl", "status", environ={"GPROXY_ADMIN": address})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gproxy: no gproxy answers at {address}: Connection refused\n"
    assert gproxy(tmp_path, "ctl", "drain", "one").returncode == 2
    done = gproxy(tmp_path, "ctl", "status", "-c", "none.yaml")
    assert (done.returncode, done.stderr) == (2, "none.yaml: can't be read: No such file or directory\n")


def test_a_unix_socket_and_a_token_from_the_configuration(tmp_path, environ):
    path = tmp_path / "admin.sock"
    token = "0123456789-abcdef"
    text = CONFIG.replace('"127.0.0.1:0"}\nlog', f'"unix:{path}", token: "${{TOKEN}}"}}\nlog')
    (tmp_path / "token").write_text(token + "\n")
    with Gproxy(tmp_path, text, environ=environ | {"TOKEN": token}):
        at = f"unix:{path}"
        of_config = gproxy(tmp_path, "ctl", "-c", "gproxy.yaml", "log", environ=environ | {"TOKEN": token})
        of_environ = gproxy(tmp_path, "ctl", "log", environ={"GPROXY_ADMIN": at, "GPROXY_TOKEN": token})
        of_file = gproxy(tmp_path, "ctl", "--admin", at, "log", "--token-file", "token")
        assert {done.stdout for done in (of_config, of_environ, of_file)} == {"info\n"}

        none = gproxy(tmp_path, "ctl", "--admin", at, "log")
        assert (none.returncode, none.stderr) == (1, "gproxy: it asks for a token: see --token-file\n")
        wrong = gproxy(tmp_path, "ctl", "--admin", at, "log", environ={"GPROXY_TOKEN": token + "x"})
        assert (wrong.returncode, wrong.stderr) == (1, "gproxy: the token is wrong\n")


@pytest.mark.parametrize("arguments", [["ctl", "metrics"], ["explain", "--json"], ["top", "--once", "--interval=1ms"]])
def test_output_that_nobody_takes(admin, arguments):
    host, port = admin.address
    command = [sys.executable, "-m", "gproxy", *arguments, "--admin", f"{host}:{port}"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=command_environ(), check=False)
    assert (done.returncode, done.stderr) == (1, b"gproxy: standard output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=command_environ(), check=False)
    os.close(writer)
    assert (done.returncode < 0, done.stderr) == (True, b"")  # as `| head` ends it


def test_it_starts_without_what_serves():
    """Neither gevent nor YAML: an operator's script may call it often."""
    code = """
import sys
from gproxy.cli import main
try:
    main(["ctl", "status", "--admin", "unix:/nowhere"])
finally:
    print(*sorted({"gevent", "yaml", "rich", "statsd", "gproxy.config"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=command_environ(), check=False
    )
    assert (done.stdout, done.stderr) == (
        "\n", "gproxy: no gproxy answers at unix:/nowhere: No such file or directory\n"
    )  # fmt: skip
