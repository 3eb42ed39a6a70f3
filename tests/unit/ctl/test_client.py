"""The client of the admin API, against servers that are none, or odd ones."""

import contextlib
import socket
import threading

import pytest

from gproxy.core.address import Address
from gproxy.ctl.client import Client, Refused, Unreachable, backend_path


@contextlib.contextmanager
def answering(answer: bytes):
    """A server of one connection; its address, and what it was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = []

        def serve():
            with server.accept()[0] as connection:
                asked.append(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Address("127.0.0.1", server.getsockname()[1]), asked
        thread.join(10)


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_a_document_and_what_is_sent_for_it():
    with answering(http("200 OK", b'{"a": 1}')) as (address, asked):
        assert Client(address, "a-token").get("/v1/decisions", last=3) == {"a": 1}
    head = asked[0].decode()
    assert head.startswith("GET /v1/decisions?last=3 HTTP/1.1\r\n")
    assert f"Host: {address}\r\n" in head
    assert "Authorization: Bearer a-token\r\n" in head


def test_a_refusal_is_an_error_with_the_servers_words():
    with answering(http("404 Not Found", b'{"error": "no such thing"}')) as (address, _):
        with pytest.raises(Refused, match=r"^no such thing$") as refused:
            Client(address).post("/v1/x")
        assert (refused.value.status, refused.value.document) == (404, {"error": "no such thing"})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http("200 OK", b"<html>"), "is no gproxy's admin API"),
        (http("404 Not Found", b"nothing here"), "is no gproxy's admin API"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no gproxy answers at 127.0.0.1:"),
        (b"", "no gproxy answers at 127.0.0.1:"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "no gproxy answers at 127.0.0.1:"),
    ],
)
def test_what_is_no_gproxy(answer, why):
    with answering(answer) as (address, _), pytest.raises(Unreachable, match=why) as unreachable:
        Client(address).get("/v1/state")
    assert not unreachable.value.nobody


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address("127.0.0.1", server.getsockname()[1])
    for client in (Client(address), Client(Address(path=str(tmp_path / "none")))):
        with pytest.raises(Unreachable, match=r"Connection refused|No such file") as unreachable:
            client.get("/v1/state")
        assert unreachable.value.nobody


def test_somebody_who_does_not_answer_is_not_waited_for_forever():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(Address("127.0.0.1", server.getsockname()[1]), timeout=0.05)
        with pytest.raises(Unreachable, match="timed out"):
            client.get("/v1/state")


def test_names_are_escaped():
    assert backend_path("app", "unix:/run/ä") == "/v1/upstreams/app/backends/unix%3A%2Frun%2F%C3%A4"
