"""Backends by host name: all addresses are used, and a name without one harms nobody else."""

import socket
import time

import gevent

from gproxy import config
from gproxy.net.connection import Endpoint
from gproxy.worker import Worker
from tests.support.ends import TIMEOUT, read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: none}
    backends:
      - {name: b1, address: "localhost:${PORT}"}
"""

UNKNOWN = (
    CONFIG
    + """
      - {name: lost, address: "no-such-host.invalid:9100"}
"""
)


def ask(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, TIMEOUT) as client:
        return read_to_end(client)


def test_localhost_is_looked_up(tmp_path):
    family, *_, sockaddr = socket.getaddrinfo("localhost", None, 0, socket.SOCK_STREAM)[0]
    with Origin("once", "b1", host=sockaddr[0]) as origin:
        assert family in (socket.AF_INET, socket.AF_INET6)
        with Gproxy(tmp_path, CONFIG, environ={"PORT": str(origin.port)}) as proxy:
            assert {ask(proxy.address("web")) for _ in range(4)} == {b"b1"}
            assert origin.address in proxy.wait_for_log("backend app/b1 is at .*")


def test_a_name_that_is_not_known_gets_no_sessions_and_one_line(tmp_path):
    with Origin("once", "b1") as origin, Gproxy(tmp_path, UNKNOWN, environ={"PORT": str(origin.port)}) as proxy:
        assert {ask(proxy.address("web")) for _ in range(6)} == {b"b1"}
        proxy.wait_for_log(
            r"warning \S+: backend app/lost: no-such-host.invalid: .*it gets no sessions until that works"
        )
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > 2.5, what="it was looked up anew, twice")
        assert proxy.stop() == 0
        assert proxy.log().count("no-such-host.invalid") == 1
        assert "Traceback" not in proxy.log()


def test_all_addresses_of_a_name_are_used_by_turns_and_past_a_dead_one():
    # In this process, with a resolver of the test's: no name of a machine surely has three addresses.
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

    def resolve(address):
        if address.is_numeric:
            return (Endpoint(socket.AF_INET, (address.host, address.port)),)
        return tuple(Endpoint(socket.AF_INET, (host, address.port)) for host in hosts)

    with Origin("once", "first", host=hosts[0]) as first, Origin("once", "second", first.port, hosts[1]) as second:
        settings = config.parse(CONFIG.replace("${PORT}", str(first.port)) + "log: {access: off}\n", "test")
        worker = Worker(settings, resolve=resolve)
        worker.start()
        try:
            outside = gevent.get_hub().threadpool  # a plain client beside our loop
            said = [outside.apply(ask, (worker.address("web"),)) for _ in range(6)]
            assert {b"first", b"second"} == set(said)
            second.kill()
            assert {outside.apply(ask, (worker.address("web"),)) for _ in range(6)} == {b"first"}
        finally:
            worker.stop()
            outside.kill()
