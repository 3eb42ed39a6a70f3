"""One of three backends is killed: its clients are served by the others, and it comes back."""

from collections import Counter
from contextlib import ExitStack

import pytest

from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{{name: web, bind: "127.0.0.1:0", upstream: app}}]
upstreams:
  app:
    health_check: {{interval: 200ms, fast_interval: 50ms, rise: 1, fall: 2, timeout: 1}}
    backends: [{backends}]
"""


@pytest.fixture
def origins():
    with ExitStack() as stack:
        yield [stack.enter_context(Origin("once", name)) for name in ("b1", "b2", "b3")]


def ask(proxy: Gproxy) -> str:
    with proxy.connect("web") as client:
        return client.recv(100).decode()


def test_sessions_of_a_killed_backend_go_to_the_others_and_come_back(tmp_path, origins):
    config = CONFIG.format(backends=", ".join(f'{{name: {o.name}, address: "{o.address}"}}' for o in origins))
    with Gproxy(tmp_path, config) as proxy:
        assert Counter(ask(proxy) for _ in range(9)) == {"b1": 3, "b2": 3, "b3": 3}

        origins[0].kill()
        assert Counter(ask(proxy) for _ in range(20)).keys() == {"b2", "b3"}
        proxy.wait_for_log("backend app/b1 is down: check failed: .*[Cc]onnection refused")

        origins[0].start()
        proxy.wait_for_log("backend app/b1 is up: check passed(?s:.*)backend app/b1 is up: check passed")
        eventually(lambda: "b1" in {ask(proxy) for _ in range(3)}, what="b1 serves again")
