"""A backend that refuses sessions is left out for a while, without a single check."""

from tests.support.ends import address, parse_line, read_to_end, refusing
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: none}
    passive_health: {connect_failures: 3, eject_for: EJECT}
    backends: [{name: b1, address: "${B1}"}, {name: b2, address: "${B2}"}]
"""


def ask(proxy: Gproxy) -> bytes:
    with proxy.connect("web") as client:
        return read_to_end(client)


def test_it_is_ejected_once_and_no_session_fails(tmp_path):
    with Origin("once", "b2") as b2, refusing() as dead:
        config = CONFIG.replace("EJECT", "1h")
        with Gproxy(tmp_path, config, environ={"B1": address(dead), "B2": b2.address}) as proxy:
            assert {ask(proxy) for _ in range(30)} == {b"b2"}
            proxy.stop()
            ejected = [line for line in proxy.log().splitlines() if "backend app/b1" in line]
            assert len(ejected) == 1
            assert f"backend app/b1 ejected for 3600 s: {address(dead)}: Connection refused" in ejected[0]
            lines = [parse_line(line) for line in proxy.access()]
            assert sum(line.retries for line in lines) == 3  # one for each failed dial that led to the ejection
            assert {(line.backend, line.code) for line in lines} == {("b2", "--")}


def test_it_serves_again_after_its_ejection(tmp_path):
    with Origin("once", "b1") as b1, Origin("once", "b2") as b2:
        config = CONFIG.replace("EJECT", "500ms")
        with Gproxy(tmp_path, config, environ={"B1": b1.address, "B2": b2.address}) as proxy:
            b1.kill()
            assert {ask(proxy) for _ in range(8)} == {b"b2"}
            proxy.wait_for_log("backend app/b1 ejected for")
            b1.start()
            eventually(lambda: b"b1" in {ask(proxy), ask(proxy)}, what="b1 serves again")
