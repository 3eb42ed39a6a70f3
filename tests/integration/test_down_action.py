"""What a backend that goes down means for its open sessions: nothing, or their end."""

import pytest

from tests.support.ends import black_holed, is_dialling, is_reset, parse_line, read, read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    down_action: ACTION
    health_check: {interval: 100ms, fast_interval: 50ms, fall: 2, port: PORT}
    backends: [{name: b1, address: "${B1}"}]
"""


WITH_BACKUP = CONFIG.replace("ACTION", "close_sessions\n    backend_connect_timeout: 3").replace(
    '"${B1}"}', '"${B1}"}, {name: b2, address: "${B2}", backup: true}'
)


@pytest.fixture
def checked():
    """What the checks look at, in the place of the backend that serves: so that one can go without the other."""
    with Origin("once") as checked:
        yield checked


@pytest.mark.parametrize("action", ["keep", "close_sessions"])
def test_down(tmp_path, checked, action):
    config = CONFIG.replace("ACTION", action).replace("PORT", str(checked.port))
    with Origin("echo") as origin, Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
        with proxy.connect("web") as client:
            client.sendall(b"before")
            assert read(client, 6) == b"before"
            checked.kill()
            proxy.wait_for_log("backend app/b1 is down")
            if action == "keep":
                client.sendall(b"after")
                assert read(client, 5) == b"after"
            else:
                assert is_reset(client)
        proxy.wait_for_access(r" 6/6 DD " if action == "close_sessions" else r" 11/11 -- ")


def test_a_session_that_still_dials_goes_on_to_another_backend(tmp_path, checked):
    config = WITH_BACKUP.replace("PORT", str(checked.port))
    with (
        Origin("hello", "b1", backlog=0) as b1,
        Origin("once", "b2", checked.port, host="127.0.0.2") as b2,  # so its checks ask b2 itself
        Gproxy(tmp_path, config, environ={"B1": b1.address, "B2": b2.address}) as proxy,
        proxy.connect("web") as relaying,
    ):
        assert read(relaying, 3) == b"b1\n"
        with black_holed(b1), proxy.connect("web") as dialling:
            eventually(lambda: is_dialling(proxy, b1.port), what="b1 is dialled")
            checked.kill()
            proxy.wait_for_log("backend app/b1 is down")
            assert is_reset(relaying)
            assert read_to_end(dialling) == b"b2"
        proxy.stop()
        lines = [parse_line(line) for line in proxy.access()]
        assert [(line.backend, line.code, line.retries) for line in lines] == [("b1", "DD", 0), ("b2", "--", 1)]
