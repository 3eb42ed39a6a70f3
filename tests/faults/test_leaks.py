"""After thousands of sessions that ended in every way, every descriptor is back."""

import pytest

from tests.support.ends import address, is_reset, meets_reset, read, read_to_end, refusing, reset
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners:
  - {name: echo, bind: "127.0.0.1:0", upstream: echo}
  - {name: resets, bind: "127.0.0.1:0", upstream: resets}
  - {name: refuses, bind: "127.0.0.1:0", upstream: refuses}
upstreams:
  echo: {health_check: {type: none}, backends: ["${ECHO}"]}
  resets: {health_check: {type: none}, backends: ["${RESETS}"]}
  refuses: {health_check: {type: none}, backends: ["${REFUSES}"]}
"""

EACH = 500


def one_of_each(proxy: Gproxy) -> None:
    with proxy.connect("echo") as client:
        client.sendall(b"word")
        assert read(client, 4) == b"word"
    with proxy.connect("echo") as client:
        client.sendall(b"word")
        reset(client)
    with proxy.connect("resets") as client:
        client.sendall(b"x")
        assert is_reset(client)
    assert meets_reset(proxy, "refuses")


@pytest.mark.xdist_group("heavy")
def test_two_thousand_sessions(tmp_path):
    with Origin("echo") as echo, Origin("reset") as resets, refusing() as dead:
        environ = {"ECHO": echo.address, "RESETS": resets.address, "REFUSES": address(dead)}
        with Gproxy(tmp_path, CONFIG, environ=environ) as proxy:
            one_of_each(proxy)
            eventually(lambda: len(proxy.access()) == 4, what="every session has ended")
            baseline = proxy.descriptors()
            for _ in range(EACH):
                one_of_each(proxy)
            eventually(lambda: len(proxy.access()) == 4 * (EACH + 1), what="every session has ended")
            assert proxy.descriptors() <= baseline
            with proxy.connect("echo") as client:
                client.sendall(b"and it works")
                client.shutdown(1)
                assert read_to_end(client) == b"and it works"
