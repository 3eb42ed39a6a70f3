"""As process 1 of a container: nobody else reaps orphans, and signals have no default there."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, processes_of

CONFIG = """
workers: 2
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {backends: [{name: one, address: "${B1}"}]}}
"""


@pytest.fixture
def proxy(tmp_path):
    """In a process namespace of its own; `process` is what unshare waits with."""
    with Origin("hello", "one") as origin:
        proxy = Gproxy(tmp_path, CONFIG, environ={"B1": origin.address})
        command = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", sys.executable, "-m", "gproxy"]
        with open(tmp_path / "stderr", "ab") as log:
            proxy.process = subprocess.Popen(
                [*command, "gproxy.yaml"], cwd=tmp_path, env=proxy._environ, stdin=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        try:
            proxy.wait_for_log("is ready")
            yield proxy
        finally:
            proxy.process.kill()
            proxy.process.wait()


def master(proxy):
    """Process 1 of the container, as we see it from outside."""
    return int(Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text())


def test_it_stops_in_order(proxy):
    with proxy.connect("web") as client:
        assert read(client, 4) == b"one\n"
    os.kill(master(proxy), signal.SIGTERM)
    assert proxy.wait() == 0
    assert proxy.log().endswith("stopped\n")


def test_a_worker_is_replaced(proxy):
    victim = processes_of(master(proxy))["worker1"]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: processes_of(master(proxy)).get("worker1", victim) != victim)


def test_orphans_are_reaped(proxy):
    first = master(proxy)
    inside = ["nsenter", "--pid", "--mount", "--target", str(first)]
    subprocess.run([*inside, "sh", "-c", "sleep 2 & exit 0"], check=True)  # its parent ends first
    eventually(lambda: "sleep" in names(first), what="the orphan is there")
    eventually(lambda: sorted(names(first)) == ["gproxy-steward", "gproxy-worker0", "gproxy-worker1"])


def names(pid):
    """Its children's, those that nobody has reaped included."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            found.append(Path(f"/proc/{child}/comm").read_text().strip())
    return found


def test_it_is_not_replaced_by_an_upgrade(proxy):
    os.kill(master(proxy), signal.SIGUSR2)
    proxy.wait_for_log("SIGUSR2: process 1 of a container can't be replaced")
    with proxy.connect("web") as client:
        assert read(client, 4) == b"one\n"
