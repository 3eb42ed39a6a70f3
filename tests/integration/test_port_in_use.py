"""An address that somebody else has: one clear line and exit status 2, and nothing is left behind."""

import socket

import pytest

from tests.support.ends import address, listening
from tests.support.proxy import gproxy

CONFIG = """
listeners:
  - {name: free, bind: "unix:DIRECTORY/free.sock", upstream: app}
  - {name: taken, bind: "BIND", upstream: app}
upstreams: {app: {backends: ["127.0.0.1:9100"]}}
"""


def refused(directory, bind: str) -> str:
    (directory / "gproxy.yaml").write_text(CONFIG.replace("BIND", bind).replace("DIRECTORY", str(directory)))
    done = gproxy(directory, "gproxy.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_tcp_port(tmp_path):
    with listening() as other:
        assert refused(tmp_path, address(other)) == (
            f"gproxy: cannot listen on {address(other)}: address already in use"
        )
    assert not (tmp_path / "free.sock").exists()


def test_a_unix_path(tmp_path):
    path = tmp_path / "taken.sock"
    with socket.create_server(str(path), family=socket.AF_UNIX):
        assert refused(tmp_path, f"unix:{path}") == f"gproxy: cannot listen on unix:{path}: address already in use"
    assert path.exists()


def test_an_address_that_is_not_ours(tmp_path):
    assert "cannot listen on 192.0.2.1:9000: cannot assign requested address" in refused(tmp_path, "192.0.2.1:9000")


@pytest.mark.parametrize("option", ["--port", "--origin-port", "--admin-port"])
def test_a_port_of_the_demo(tmp_path, option):
    with listening() as other:
        port = other.getsockname()[1]
        done = gproxy(tmp_path, "demo", "--port", "0", "--origin-port", "0", "--admin-port", "0", option, str(port))
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
        assert "Traceback" not in done.stderr
