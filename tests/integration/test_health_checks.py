"""Active checks: what each kind of them looks at, and that a flip is said once."""

import contextlib
import http.client
import tempfile

import pytest

from tests.support.ends import read_to_end, refusing
from tests.support.http_origin import Notes, RecordingOrigin
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {CHECK, interval: 100ms, fast_interval: 50ms, timeout: 2}
    backends: [{name: b1, address: "${B1}"}, {name: b2, address: "${B2:-127.0.0.1:1}"}]
"""


def flips(proxy: Gproxy, backend: str = "b1") -> list[str]:
    """What the log says of a backend's health, in order."""
    return [line.split(": ", 1)[1] for line in proxy.log().splitlines() if f"backend app/{backend} is " in line]


def wait_for_flips(proxy: Gproxy, count: int) -> list[str]:
    eventually(lambda: len(flips(proxy)) >= count, what=f"{count} flips of b1")
    return flips(proxy)


def test_tcp_flips_are_logged_once_each(tmp_path):
    with (
        Origin("once") as origin,
        Gproxy(
            tmp_path, CONFIG.replace("CHECK", "type: tcp, rise: 2, fall: 3"), environ={"B1": origin.address}
        ) as proxy,
    ):
        origin.kill()
        wait_for_flips(proxy, 2)
        origin.start()
        wait_for_flips(proxy, 3)
        origin.kill()
        wait_for_flips(proxy, 4)
        proxy.stop()
        refused = f"backend app/b1 is down: check failed: {origin.address}: Connection refused"
        passed = "backend app/b1 is up: check passed"
        assert flips(proxy) == [passed, refused, passed, refused]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("path: /", "is up: check passed"),
        ("path: /fail", "is down: check failed: status 500"),
        ("path: /fail, expect_status: [200, 500-599]", "is up: check passed"),
        ("path: /, expect_status: 204", "is down: check failed: status 200"),
        ("path: /, expect_body: healthy", "is up: check passed"),
        ("path: /, expect_body: splendid", "is down: check failed: status 200, but the body lacks 'splendid'"),
    ],
)
def test_http_looks_at_status_and_body(tmp_path, check, said):
    with Origin("http", "quite-healthy") as origin:
        config = CONFIG.replace("CHECK", f"type: http, {check}")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            assert flips(proxy) == [f"backend app/b1 {said}"]


@pytest.mark.parametrize(
    ("path", "said"), [("/", "is up: check passed"), ("/fail", "is down: check failed: status 500")]
)
def test_http_asks_a_unix_socket(tmp_path, path, said):
    with tempfile.TemporaryDirectory() as short, Origin("http", host=f"unix:{short}/b1") as origin:
        config = CONFIG.replace("CHECK", f"type: http, path: {path}")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            assert flips(proxy) == [f"backend app/b1 {said}"]


@pytest.mark.parametrize("check", ["type: http", "type: http, expect_body: healthy"])
def test_http_reads_no_further_than_it_has_to(tmp_path, check):
    with Origin("unending", "quite-healthy") as origin:
        config = CONFIG.replace("CHECK", check)
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            assert flips(proxy) == ["backend app/b1 is up: check passed"]


def test_http_follows_a_body_that_changes(tmp_path):
    with Origin("http", "healthy") as well:
        config = CONFIG.replace("CHECK", "type: http, expect_body: healthy, fall: 1, rise: 1")
        with Gproxy(tmp_path, config, environ={"B1": well.address}) as proxy:
            well.kill()
            with Origin("http", "ill", well.port):
                proxy.wait_for_log("backend app/b1 is down")
            well.start()
            wait_for_flips(proxy, 3)


def test_a_server_that_does_not_speak_http_fails_an_http_check(tmp_path):
    with Origin("hello", "not http") as origin:
        config = CONFIG.replace("CHECK", "type: http")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            assert "backend app/b1 is down: check failed: broken answer: " in flips(proxy)[0]


def test_a_silent_server_fails_an_http_check_by_its_timeout(tmp_path):
    with Origin("hold") as origin:
        config = CONFIG.replace("CHECK", "type: http").replace("timeout: 2", "timeout: 200ms")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            assert flips(proxy) == ["backend app/b1 is down: check failed: no answer within 0.2 s"]


def test_another_port_can_be_checked(tmp_path):
    with Origin("once", "b1") as origin, Origin("http") as checked:
        config = CONFIG.replace("CHECK", f"type: http, port: {checked.port}, fall: 1")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            assert flips(proxy) == ["backend app/b1 is up: check passed"]
            checked.kill()
            assert "is down" in wait_for_flips(proxy, 2)[1]


def test_the_first_check_comes_before_the_first_session(tmp_path):
    with Origin("once", "b2") as alive, refusing() as dead:
        host, port = dead.getsockname()
        environ = {"B1": f"{host}:{port}", "B2": alive.address}
        with Gproxy(tmp_path, CONFIG.replace("CHECK", "type: tcp").replace("100ms", "60"), environ=environ) as proxy:
            log = proxy.log()
            assert log.index("backend app/b1 is down") < log.index("listener web: serving")
            for _ in range(4):
                with proxy.connect("web") as client:
                    assert read_to_end(client) == b"b2"
            proxy.stop()
            assert [line.split()[-2] for line in proxy.access()] == ["0"] * 4  # nobody tried the dead one


HTTP_CONFIG = """
listeners: [{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: http, path: /health, use_pool: true, expect_body: "GET /health", interval: 100ms}
    backends: [{name: b1, address: "${B1}"}]
"""


def test_http_asks_over_the_connection_that_a_client_left(tmp_path):
    notes = Notes()

    def wait_for_checks(count):
        before = len(notes.of(b"/health"))
        eventually(lambda: len(notes.of(b"/health")) >= before + count, what=f"{count} checks more")

    with RecordingOrigin("b1", notes) as origin, Gproxy(tmp_path, HTTP_CONFIG, environ={"B1": origin.address}) as proxy:
        with contextlib.closing(http.client.HTTPConnection(*proxy.address("web"), timeout=10)) as client:
            for _ in range(3):
                client.request("GET", "/")
                assert client.getresponse().read() == b"GET /"
                wait_for_checks(2)  # the first one may have begun before there was anything idle
                connections = origin.connections
                wait_for_checks(3)
                assert origin.connections == connections
        assert flips(proxy) == ["backend app/b1 is up: check passed"]
    assert notes.complaints == []
