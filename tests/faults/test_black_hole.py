"""A stopped backend with a full backlog costs a session one connect timeout, and never the session."""

from contextlib import ExitStack

import pytest

from tests.support.ends import black_hole, meets_reset, parse_line, read_to_end, wait_for_line
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    backend_connect_timeout: 1
    retries: RETRIES
    health_check: {type: none}
    backends: [{name: b1, address: "${B1}"}BACKENDS]
"""

TWO = ', {name: b2, address: "${B2}"}'


def test_the_session_goes_to_the_other_one(tmp_path):
    config = CONFIG.replace("BACKENDS", TWO).replace("RETRIES", "2")
    with (
        black_hole() as hole,
        Origin("once", "b2") as b2,
        Gproxy(tmp_path, config, environ={"B1": hole, "B2": b2.address}) as proxy,
    ):
        for _ in range(2):  # at least one of them is for b1 first
            with proxy.connect("web") as client:
                assert read_to_end(client) == b"b2"
        proxy.stop()
        lines = [parse_line(line) for line in proxy.access()]
        assert {(line.backend, line.code) for line in lines} == {("b2", "--")}
        retried = [line for line in lines if line.retries]
        assert [line.retries for line in retried] in ([1], [1, 1])
        assert all(1000 <= line.tw + line.tc < 2000 for line in retried)  # ms: one timeout, and not two


def test_all_of_a_crowd_go_to_the_other_one(tmp_path):
    config = CONFIG.replace("BACKENDS", TWO).replace("RETRIES", "2").replace("_timeout: 1", "_timeout: 500ms")
    with (
        black_hole() as hole,
        Origin("once", "b2") as b2,
        Gproxy(tmp_path, config, environ={"B1": hole, "B2": b2.address}) as proxy,
    ):
        with ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect("web")) for _ in range(20)]
            assert [read_to_end(client) for client in clients] == [b"b2"] * 20
        proxy.stop()
        lines = [parse_line(line) for line in proxy.access()]
        assert [(line.backend, line.code) for line in lines] == [("b2", "--")] * 20
        assert sum(line.retries for line in lines) > 4  # more than the budget's fifth


def test_with_nobody_else_it_is_a_connect_timeout(tmp_path):
    config = CONFIG.replace("BACKENDS", "").replace("RETRIES", "2")
    with black_hole() as hole, Gproxy(tmp_path, config, environ={"B1": hole}) as proxy:
        assert meets_reset(proxy)
        line = wait_for_line(proxy)
        assert (line.backend, line.code, line.tc, line.retries) == ("b1", "sC", -1, 0)
        assert line.tt >= 1000


@pytest.mark.parametrize("where", ["listener", "upstream"])
def test_a_listener_may_have_a_connect_timeout_of_its_own(tmp_path, where):
    config = CONFIG.replace("BACKENDS", "").replace("RETRIES", "0")
    if where == "listener":
        config = config.replace("backend_connect_timeout: 1", "backend_connect_timeout: 60")
        config = config.replace("upstream: app}", "upstream: app, backend_connect_timeout: 200ms}")
    with black_hole() as hole, Gproxy(tmp_path, config, environ={"B1": hole}) as proxy:
        assert meets_reset(proxy)
        assert wait_for_line(proxy).code == "sC"
