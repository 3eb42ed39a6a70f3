"""Every way in which a session can end, in one process, and the code that the access log has for each.

Each listener stands for one of them and bears its name.
"""

import contextlib
import json
import socket

import pytest

from tests.support.ends import (
    black_hole,
    is_reset,
    meets_reset,
    parse_line,
    read,
    read_to_end,
    refusing,
    reset,
    send_until_reset,
)
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
load_balancer: {drain_timeout: 200ms, retries: 0}
log: {format: FORMAT}
listeners:
  - {name: normal, bind: "127.0.0.1:0", upstream: echo}
  - {name: client_reset, bind: "127.0.0.1:0", upstream: echo}
  - {name: backend_reset, bind: "127.0.0.1:0", upstream: resets}
  - {name: nobody, bind: "127.0.0.1:0", upstream: refuses}
  - {name: connect_timeout, bind: "127.0.0.1:0", upstream: black_hole}
  - {name: queue_timeout, bind: "127.0.0.1:0", upstream: one_at_a_time, queue_timeout: 200ms}
  - {name: left_queue, bind: "127.0.0.1:0", upstream: one_at_a_time, queue_timeout: 60}
  - {name: idle, bind: "127.0.0.1:0", upstream: echo, connection_idle_timeout: 200ms}
  - {name: backend_stalls, bind: "127.0.0.1:0", upstream: holds, stall_timeout: 200ms}
  - {name: backend_unfinished, bind: "127.0.0.1:0", upstream: holds, half_close_timeout: 200ms}
  - {name: client_unfinished, bind: "127.0.0.1:0", upstream: once, half_close_timeout: 200ms}
  - {name: backend_down, bind: "127.0.0.1:0", upstream: checked}
  - {name: has_slot, bind: "127.0.0.1:0", upstream: one_at_a_time}
  - {name: killed, bind: "127.0.0.1:0", upstream: echo}
  - {name: killed_in_queue, bind: "127.0.0.1:0", upstream: one_at_a_time, queue_timeout: 60}
  - {name: killed_in_connect, bind: "127.0.0.1:0", upstream: black_hole_for_long}
upstreams:
  echo: {health_check: {type: none}, backends: ["${ECHO}"]}
  resets: {health_check: {type: none}, backends: ["${RESETS}"]}
  refuses: {health_check: {type: none}, backends: ["${REFUSES}"]}
  holds: {health_check: {type: none}, backends: ["${HOLDS}"]}
  once: {health_check: {type: none}, backends: ["${ONCE}"]}
  black_hole: {health_check: {type: none}, backends: ["${BLACK_HOLE}"], backend_connect_timeout: 200ms}
  black_hole_for_long: {health_check: {type: none}, backends: ["${BLACK_HOLE}"], backend_connect_timeout: 60}
  one_at_a_time: {health_check: {type: none}, backends: [{address: "${ECHO}", max_connections: 1}]}
  checked:
    down_action: close_sessions
    health_check: {interval: 100ms, fall: 1, port: CHECKED_PORT}
    backends: ["${ECHO}"]
"""

CODES = {
    "normal": "--",
    "client_reset": "CD",
    "backend_reset": "SD",
    "nobody": "SC",
    "connect_timeout": "sC",
    "queue_timeout": "sQ",
    "left_queue": "CQ",
    "idle": "cD",
    "backend_stalls": "sD",
    "backend_unfinished": "sL",
    "client_unfinished": "cL",
    "backend_down": "DD",
    "has_slot": "KD",
    "killed": "KD",
    "killed_in_queue": "KQ",
    "killed_in_connect": "KC",
}


@pytest.fixture
def origins():
    with contextlib.ExitStack() as stack:
        behaviours = {"ECHO": "echo", "RESETS": "reset", "HOLDS": "hold", "ONCE": "once", "CHECKED": "once"}
        yield {name: stack.enter_context(Origin(behaviour)) for name, behaviour in behaviours.items()}


@pytest.fixture
def environ(origins):
    with black_hole() as hole, refusing() as refuses:
        host, port = refuses.getsockname()
        addresses = {name: origin.address for name, origin in origins.items()}
        yield addresses | {"BLACK_HOLE": hole, "REFUSES": f"{host}:{port}"}


def exchange(client: socket.socket) -> None:
    client.sendall(b"word")
    assert read(client, 4) == b"word"


def end_by_the_peers(proxy: Gproxy) -> None:
    with proxy.connect("normal") as client:
        exchange(client)
    with proxy.connect("client_reset") as client:
        exchange(client)
        reset(client)
    with proxy.connect("backend_reset") as client:
        client.sendall(b"x")
        assert is_reset(client)


def end_by_timeouts(proxy: Gproxy) -> None:
    with proxy.connect("idle") as client:
        assert read_to_end(client) == b""
    with proxy.connect("backend_stalls") as client:
        assert send_until_reset(client)
    with proxy.connect("backend_unfinished") as client:
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    with proxy.connect("client_unfinished") as client:
        assert read_to_end(client) == b"origin"
        proxy.wait_for_access("cL")


def end_without_a_backend(proxy: Gproxy) -> None:
    for name in ("nobody", "connect_timeout", "queue_timeout"):
        assert meets_reset(proxy, name)
    reset(proxy.connect("left_queue"))


def end_by_the_checks(proxy: Gproxy, checked: Origin) -> None:
    with proxy.connect("backend_down") as client:
        exchange(client)
        checked.kill()
        assert is_reset(client)


def end_by_the_operator(proxy: Gproxy, stack: contextlib.ExitStack) -> None:
    exchange(stack.enter_context(proxy.connect("has_slot")))
    waiting = [stack.enter_context(proxy.connect(f"killed_in_{phase}")) for phase in ("queue", "connect")]
    exchange(stack.enter_context(proxy.connect("killed")))  # so that those before it were accepted
    assert proxy.stop() == 0
    assert [is_reset(client) for client in waiting] == [True, True]


@pytest.mark.parametrize("format", ["text", "json"])
def test_every_end_has_its_code(tmp_path, origins, environ, format):
    config = CONFIG.replace("FORMAT", format).replace("CHECKED_PORT", str(origins["CHECKED"].port))
    with Gproxy(tmp_path, config, environ=environ) as proxy, contextlib.ExitStack() as stack:
        with proxy.connect("has_slot") as holder:
            exchange(holder)
            end_by_the_peers(proxy)
            end_by_timeouts(proxy)
            end_without_a_backend(proxy)
            end_by_the_checks(proxy, origins["CHECKED"])
        proxy.wait_for_access("CQ")  # who left is noticed when its turn comes
        end_by_the_operator(proxy, stack)
        assert codes(proxy, format) == CODES
        assert "Traceback" not in proxy.log()


def codes(proxy: Gproxy, format: str) -> dict[str, str]:
    """The last code of each listener."""
    if format == "json":
        lines = [json.loads(line) for line in proxy.access()]
        return {line["listener"]: line["code"] for line in lines}
    return {line.listener: line.code for line in map(parse_line, proxy.access())}
