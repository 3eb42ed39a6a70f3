"""`user`: the master binds as root, and whoever meets the network is somebody else."""

import pwd
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
user: nobody
listeners:
  - {{name: web, bind: "127.0.0.1:{web}", upstream: app}}
  {more}
upstreams: {{app: {{backends: [{{name: one, address: "{b1}"}}]}}}}
"""


@pytest.fixture
def origin():
    with Origin("hello", "one") as origin:
        yield origin


def low_port():
    """A free one that only root can bind."""
    for port in range(1023, 600, -1):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port below 1024 is free")


def uids(pid):
    """Real, effective, saved and file system's."""
    return {
        int(uid) for uid in re.findall(r"Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)", Path(f"/proc/{pid}/status").read_text())[0]
    }


def groups(pid):
    return re.findall(r"Groups:\t?(.*)", Path(f"/proc/{pid}/status").read_text())[0].split()


def test_children_run_as_the_user_and_the_master_can_bind_low_ports_all_along(tmp_path, origin):
    nobody = pwd.getpwnam("nobody")
    port = low_port()
    with Gproxy(tmp_path, CONFIG.format(web=port, more="", b1=origin.address)) as proxy:
        assert uids(proxy.process.pid) == {0}
        for pid in proxy.processes().values():
            assert uids(pid) == {nobody.pw_uid}
            assert groups(pid) == [str(nobody.pw_gid)]
        with proxy.connect("web") as client:
            assert read(client, 4) == b"one\n"
        more = f'- {{name: more, bind: "127.0.0.1:{low_port()}", upstream: app}}'
        proxy.config.write_text(CONFIG.format(web=port, more=more, b1=origin.address))
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_log("listener more: serving on")
        with proxy.connect("more") as client:
            assert read(client, 4) == b"one\n"
        eventually(lambda: len(proxy.processes()) == 2)
        assert uids(proxy.worker) == {nobody.pw_uid}
        assert proxy.stop() == 0
