"""IPv6 and unix sockets, on either side and mixed."""

import socket
import stat

from tests.support.ends import TIMEOUT, read_to_end
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "BIND", upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""


def talk(client: socket.socket) -> bytes:
    with client:
        client.settimeout(TIMEOUT)
        client.sendall(b"some bytes")
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client)


def test_ipv6_on_both_sides(tmp_path):
    with Origin("echo", host="::1") as origin:
        assert origin.address.startswith("[::1]:")
        config = CONFIG.replace("BIND", "[::1]:0")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            client = proxy.connect("web")
            assert client.family == socket.AF_INET6
            assert talk(client) == b"some bytes"
            assert proxy.wait_for_access(r"^\S+ ").startswith("[::1]:")


def test_all_addresses_of_the_machine_at_once(tmp_path):
    with (
        Origin("echo") as origin,
        Gproxy(tmp_path, CONFIG.replace("BIND", "[::]:0"), environ={"B1": origin.address}) as proxy,
    ):
        _, port = proxy.address("web")
        for host in ("127.0.0.1", "::1"):
            assert talk(socket.create_connection((host, port), TIMEOUT)) == b"some bytes"


def test_unix_sockets_on_both_sides(tmp_path):
    path = tmp_path / "front.sock"
    with Origin("echo", host=f"unix:{tmp_path}/back.sock") as origin:
        config = CONFIG.replace("BIND", f"unix:{path}")
        with Gproxy(tmp_path, config, environ={"B1": origin.address}) as proxy:
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            assert talk(client) == b"some bytes"
            assert proxy.wait_for_access(r"(?m)^.+$").split()[0] == "unix:"
            assert proxy.stop() == 0
    assert not path.exists()


def test_a_socket_file_that_a_killed_gproxy_left_is_taken_over(tmp_path):
    path = tmp_path / "front.sock"
    with Origin("echo") as origin:
        for life in ("first", "second"):
            directory = tmp_path / life
            directory.mkdir()
            with Gproxy(directory, CONFIG.replace("BIND", f"unix:{path}"), environ={"B1": origin.address}):
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(path))
                assert talk(client) == b"some bytes"
            assert stat.S_ISSOCK(path.stat().st_mode)  # it was killed, and could not remove it


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "front.sock"
    path.write_text("precious")
    proxy = Gproxy(tmp_path, CONFIG.replace("BIND", f"unix:{path}"), environ={"B1": "127.0.0.1:1"})
    proxy.spawn()
    assert proxy.wait() == 2
    assert f"cannot listen on unix:{path}" in proxy.log()
    assert path.read_text() == "precious"
