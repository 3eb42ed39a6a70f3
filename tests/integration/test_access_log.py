"""Where the access log goes, and what one line says."""

import json
import signal
import socket

import pytest

from tests.support.ends import parse_line, read, read_to_end, reset
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
log: {LOG}
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""


@pytest.fixture
def origin():
    with Origin("echo") as origin:
        yield origin


def talk(proxy: Gproxy) -> str:
    """One session of five bytes and five back; the client's address."""
    with proxy.connect("web") as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b"hello"
        host, port = client.getsockname()
        return f"{host}:{port}"


def test_a_line_of_text_on_standard_output(tmp_path, origin):
    with Gproxy(tmp_path, CONFIG.replace("LOG", ""), environ={"B1": origin.address}) as proxy:
        client = talk(proxy)
        proxy.stop()
        (line,) = proxy.access()
        parsed = parse_line(line)
        assert parsed._replace(tw=0, tc=0, tt=0) == (client, "web", "b1", 0, 0, 0, 5, 5, "--", 0, "fresh")
        assert 0 <= parsed.tw + parsed.tc <= parsed.tt
        assert " 1/1/1/1 0 " in line


def test_json_has_the_same_fields(tmp_path, origin):
    with Gproxy(tmp_path, CONFIG.replace("LOG", "format: json"), environ={"B1": origin.address}) as proxy:
        client = talk(proxy)
        proxy.stop()
        (line,) = map(json.loads, proxy.access())
        assert 0 <= line.pop("tw") + line.pop("tc") <= line.pop("tt")
        assert line.pop("started").endswith("Z")
        assert line == {
            "client": client, "listener": "web", "upstream": "app", "backend": "b1", "bytes_in": 5, "bytes_out": 5,
            "code": "--", "active": 1, "listener_active": 1, "upstream_active": 1, "backend_active": 1,
            "retries": 0, "connection": "fresh",
        }  # fmt: skip
        assert [json.loads(said)["level"] for said in proxy.log().splitlines()]  # the log is JSON then, too


def test_a_path(tmp_path, origin):
    path = tmp_path / "access.log"
    path.write_text("what was there before\n")
    with Gproxy(tmp_path, CONFIG.replace("LOG", f"access: {path}"), environ={"B1": origin.address}) as proxy:
        client = talk(proxy)
        eventually(lambda: client in path.read_text(), what="the line is in the file")
        proxy.stop()
        assert path.read_text().splitlines()[0] == "what was there before"
        assert len(path.read_text().splitlines()) == 2
        assert proxy.access() == []


def test_sigusr1_opens_a_file_that_was_moved_away_anew(tmp_path, origin):
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with Gproxy(tmp_path, CONFIG.replace("LOG", f"access: {path}"), environ={"B1": origin.address}) as proxy:
        before = talk(proxy)
        eventually(lambda: before in path.read_text(), what="the line is in the file")
        path.rename(moved)
        proxy.signal(signal.SIGUSR1)
        eventually(path.exists, what="there is a new file")
        after = talk(proxy)
        assert proxy.stop() == 0
        assert [parse_line(line).client for line in moved.read_text().splitlines()] == [before]
        assert [parse_line(line).client for line in path.read_text().splitlines()] == [after]


def test_a_path_that_cannot_be_opened_is_exit_status_2(tmp_path, origin):
    proxy = Gproxy(tmp_path, CONFIG.replace("LOG", "access: /no/such/directory/log"), environ={"B1": origin.address})
    proxy.spawn()
    assert proxy.wait() == 2
    assert "/no/such/directory/log: can't be opened for the log: No such file or directory" in proxy.log()
    assert "Traceback" not in proxy.log()


def test_off(tmp_path, origin):
    with Gproxy(tmp_path, CONFIG.replace("LOG", "access: off"), environ={"B1": origin.address}) as proxy:
        talk(proxy)
        assert proxy.stop() == 0
        assert proxy.access() == []


def test_bytes_are_counted_up_to_a_reset(tmp_path, origin):
    with Gproxy(tmp_path, CONFIG.replace("LOG", ""), environ={"B1": origin.address}) as proxy:
        with proxy.connect("web") as client:
            client.sendall(bytes(100_000))
            assert len(read(client, 100_000)) == 100_000
            reset(client)
        proxy.wait_for_access(r" 100000/100000 CD 1/1/1/1 ")
