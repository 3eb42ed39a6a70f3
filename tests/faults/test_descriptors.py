"""Running out of descriptors: accepting pauses, nothing breaks, and it goes on when there are some again."""

import contextlib
import re
import resource
import select
import socket
import time
from pathlib import Path

import pytest

from tests.support.ends import TIMEOUT, read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

LISTENER = '  - {name: web%d, bind: "127.0.0.1:0", upstream: app}\n'

UPSTREAM = """
upstreams: {app: {health_check: {type: none}, backends: [{name: b1, address: "${B1}"}]}}
"""

LIMIT = 300


def config(listeners: int) -> str:
    return "listeners:\n" + "".join(LISTENER % number for number in range(listeners)) + UPSTREAM


def crowd(proxy: Gproxy, listeners: int, size: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    clients = []
    for number in range(size):
        client = stack.enter_context(proxy.connect(f"web{number % listeners}"))
        with contextlib.suppress(OSError):  # reset: there was none left for its backend
            client.sendall(b"word")
        clients.append(client)
    return clients


def works(proxy: Gproxy, listener: str) -> bool:
    try:
        with proxy.connect(listener) as client:
            client.sendall(b"word")
            return read(client, 4) == b"word"
    except ConnectionResetError:
        return False


def allow(proxy: Gproxy, more: int) -> int:
    """Leave it so many descriptors beside those in use, whatever it planned for; the limit."""
    limit = proxy.descriptors() + more
    _, hard = resource.prlimit(proxy.worker, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.worker, resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def test_it_raises_its_soft_limit_to_the_hard_one(tmp_path):
    with Gproxy(tmp_path, config(1), limit=1024, soft_limit=128, environ={"B1": "127.0.0.1:1"}) as proxy:
        limits = Path(f"/proc/{proxy.worker}/limits").read_text()
        assert re.search(r"Max open files +1024 +1024 ", limits)


def test_one_listener_leaves_clients_in_the_backlog_before_descriptors_run_out(tmp_path):
    with (
        Origin("echo") as origin,
        contextlib.ExitStack() as stack,
        Gproxy(tmp_path, config(1), limit=LIMIT, environ={"B1": origin.address}) as proxy,
    ):
        assert "max_connections is 10000, but the descriptors suffice for 82 sessions" in proxy.log()
        clients = crowd(proxy, 1, 300, stack)
        for client in clients:  # each is served in its turn, when those before it have gone
            assert read(client, 4) == b"word"
            client.close()
        proxy.stop()
        assert len(proxy.access()) == 300
        assert "accepting pauses" not in proxy.log()


def test_several_listeners_share_the_room(tmp_path):
    """A session that ends is room for the next one, of whichever listener."""
    with (
        Origin("echo") as origin,
        contextlib.ExitStack() as stack,
        Gproxy(tmp_path, config(4), limit=LIMIT, environ={"B1": origin.address}) as proxy,
    ):
        waiting = crowd(proxy, 4, 300, stack)
        while waiting:
            served, _, _ = select.select(waiting, [], [], TIMEOUT)
            assert served, f"{len(waiting)} clients wait for ever"
            for client in served:
                assert read(client, 4) == b"word"
                client.close()
                waiting.remove(client)
        proxy.stop()
        assert len(proxy.access()) == 300
        assert "accepting pauses" not in proxy.log()


@pytest.mark.fault("descriptors run out")
def test_it_runs_out_all_the_same_and_recovers(tmp_path, reliability_row):
    with (
        Origin("echo") as origin,
        contextlib.ExitStack() as stack,
        Gproxy(tmp_path, config(2), environ={"B1": origin.address}) as proxy,
    ):
        assert works(proxy, "web0")
        bystander = stack.enter_context(proxy.connect("web1"))
        slowest = talk(bystander)
        baseline = proxy.descriptors()
        limit = allow(proxy, 20)
        clients = crowd(proxy, 2, 100, stack)
        proxy.wait_for_log("accepting pauses: ")
        eventually(lambda: proxy.descriptors() >= limit - 2, what="all descriptors are in use")

        before, began = proxy.cpu(), time.monotonic()
        eventually(lambda: time.monotonic() - began > 1.5, what="a while has passed")
        assert proxy.cpu() - before < 0.4  # seconds: no busy loop
        slowest = max(slowest, *(talk(bystander) for _ in range(20)))
        assert proxy.process.poll() is None

        began = time.monotonic()
        for client in clients:
            client.close()
        for number in range(2):
            eventually(lambda number=number: works(proxy, f"web{number}"), TIMEOUT, f"web{number} serves again")
        took = time.monotonic() - began
        eventually(lambda: proxy.descriptors() <= baseline, TIMEOUT, "its descriptors are back")
        bystander.close()
        proxy.stop()
        log = proxy.log()
        pauses = re.findall(r"listener (\S+): accepting pauses", log)
        assert len(pauses) == len(set(pauses))  # one line for each that it concerns
        assert "Traceback" not in log
    reliability_row(
        sees="a new one: it waits in the backlog, or is reset where there is none left for its backend (http: 503)",
        took=took,
        bound="until it is served, once there are some again",
        others=f"nobody who has a session ({slowest * 1000:.0f} ms)",
        heals="accepting pauses for 50 ms to 1 s at a time, without burning CPU, and goes on by itself",
    )


def talk(client: socket.socket) -> float:
    """How long an echo took, in seconds."""
    began = time.monotonic()
    client.sendall(b"word")
    assert read(client, 4) == b"word"
    return time.monotonic() - began
