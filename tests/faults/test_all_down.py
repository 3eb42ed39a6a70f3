"""Nobody can serve: the client learns it at once, as configured."""

import pytest

from tests.support.ends import address, meets_reset, read_to_end, refusing, wait_for_line
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {CHECK}
    all_down: ACTION
    backends: [{name: b1, address: "${B1}"}]
"""


@pytest.fixture
def start(tmp_path):
    """`start(check, action)`: gproxy in front of a backend that refuses."""
    with refusing() as dead:
        environ = {"B1": address(dead)}
        yield lambda check, action: Gproxy(
            tmp_path, CONFIG.replace("CHECK", check).replace("ACTION", action), environ=environ
        )


@pytest.mark.parametrize("check", ["type: tcp", "type: none"])  # down for the checks; found out by the dial
def test_a_client_is_reset(start, check):
    with start(check, "reset") as proxy:
        assert meets_reset(proxy)
        line = wait_for_line(proxy)
        assert (line.code, line.tc, line.bytes_in, line.bytes_out) == ("SC", -1, 0, 0)
        assert line.retries == 0  # there was nobody else to try
        assert line.backend == ("<none>" if check == "type: tcp" else "b1")


@pytest.mark.parametrize("check", ["type: tcp", "type: none"])
def test_or_closed_without_a_word(start, check):
    with start(check, "close") as proxy, proxy.connect("web") as client:
        assert read_to_end(client) == b""
        assert wait_for_line(proxy).code == "SC"


@pytest.mark.parametrize("check", ["type: tcp", "type: none"])
def test_one_that_has_spoken_is_closed_and_not_reset(start, check):
    with start(check, "close") as proxy:
        with proxy.stopped():
            client = proxy.connect("web")
            client.sendall(bytes(1000))
        with client:
            assert read_to_end(client) == b""
            assert wait_for_line(proxy).code == "SC"


def test_the_log_says_once_that_nobody_can_serve(start):
    with start("type: tcp", "reset") as proxy:
        assert meets_reset(proxy)
        assert meets_reset(proxy)
        proxy.stop()
        assert proxy.log().count("upstream app: no backend can serve") == 1
