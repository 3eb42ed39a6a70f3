"""What a backend that goes down means for its open sessions: nothing, or their end."""

import pytest

from tests.support.ends import is_reset, read
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    down_action: ACTION
    health_check: {interval: 100ms, fast_interval: 50ms, fall: 2, port: PORT}
    backends: [{name: b1, address: "${B1}"}]
"""


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
