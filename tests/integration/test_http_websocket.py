"""WebSocket through an http listener: frames by hand as the Autobahn suite has them, and real clients and servers."""

import asyncio
import contextlib
import os
import random
import select
import socket
import struct

import aiohttp
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from tests.support.ends import TIMEOUT, accept, address, listening, read, read_to_end
from tests.support.proxy import Gproxy
from tests.support.web_servers import Uvicorn, WebSocketOrigin
from tests.support.websocket_frames import BYTEWISE, HANDSHAKE, TEXT, Case, FrameClient, cases, frame, said

pytestmark = pytest.mark.xdist_group("http-websocket")

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {health_check: {type: none}, backends: [{name: b1, address: "${B1}"}]}}
"""
MIB = 1024 * 1024
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with WebSocketOrigin(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory):
    with Gproxy(tmp_path_factory.mktemp("proxy"), CONFIG, environ={"B1": server.address}) as proxy:
        yield proxy
    assert "Traceback" not in proxy.log()


def url(proxy, path="/echo"):
    return "ws://{}:{}{}".format(*proxy.address("web"), path)


def tunnel(proxy, path="/echo", **more):
    return connect(url(proxy, path), max_size=None, proxy=None, open_timeout=TIMEOUT, close_timeout=TIMEOUT, **more)


# By hand.


def conversation(where, case: Case, **way):
    with socket.create_connection(where, TIMEOUT) as sock:
        return FrameClient(sock).converse(case, **way)


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_conversation_is_what_it_is_without_a_proxy(server, proxy, case):
    directly = conversation(("127.0.0.1", server.port), case)
    assert conversation(proxy.address("web"), case) == directly
    assert conversation(proxy.address("web"), case, behind=True) == directly
    if len(case.steps[0].sent) <= BYTEWISE:
        assert conversation(proxy.address("web"), case, bytewise=True) == directly


def test_a_client_that_sends_frames_in_one_piece_with_its_handshake(proxy):
    messages = [os.urandom(random.randrange(2000)).hex().encode() for _ in range(200)]
    half = len(messages) // 2
    with proxy.connect("web") as sock:
        client = FrameClient(sock)
        client.open(b"/echo", b"".join(frame(TEXT, message) for message in messages[:half]))
        for message in messages[half:]:
            sock.sendall(frame(TEXT, message))
        for message in messages:
            assert client.frame() == said(TEXT, message)


@contextlib.contextmanager
def upgrading(tmp_path, behind_request=b""):
    """A client and a backend, which the test plays, amid an upgrade."""
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(listening())
        proxy = stack.enter_context(Gproxy(tmp_path, CONFIG, environ={"B1": address(backend)}))
        client = stack.enter_context(proxy.connect("web"))
        client.sendall(HANDSHAKE % b"/chat" + behind_request)
        yield proxy, client, stack.enter_context(accept(backend))


def read_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(sock, 1)
    return head


def nothing_came(sock):
    readable, _, _ = select.select([sock], [], [], 0)
    return not readable or sock.recv(1) == b""


def test_what_the_server_sends_in_one_piece_with_its_101(tmp_path):
    with upgrading(tmp_path) as (_, client, server):
        assert b"\r\nUpgrade: websocket\r\n" in read_head(server)
        server.sendall(SWITCHED + b"greeting")
        assert read_head(client).startswith(b"HTTP/1.1 101 ")
        assert read(client, 8) == b"greeting"


def test_what_the_client_sends_before_the_101_arrives_after_it(tmp_path):
    with upgrading(tmp_path, behind_request=b"early") as (_, client, server):
        read_head(server)
        assert nothing_came(server)
        client.sendall(b" bird")
        server.sendall(SWITCHED)
        assert read(server, 10) == b"early bird"


def test_frames_behind_a_handshake_that_is_refused_are_no_request(tmp_path):
    with upgrading(tmp_path, behind_request=frame(TEXT, b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")) as talk:
        _, client, server = talk
        read_head(server)
        server.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        assert read_head(client).startswith(b"HTTP/1.1 404 ")
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")
        assert nothing_came(server)


def test_each_side_may_end_before_the_other(tmp_path):
    with upgrading(tmp_path) as (proxy, client, server):
        read_head(server)
        server.sendall(SWITCHED)
        read_head(client)
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(server) == b"last words"
        server.sendall(b"farewell")
        server.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b"farewell"
        proxy.wait_for_access(r' 101 \d+/\d+ -- .* "GET /chat HTTP/1.1"')


@pytest.mark.parametrize(("who", "code"), [("client", "CT"), ("server", "ST")])
def test_a_tunnel_that_is_reset(tmp_path, who, code):
    with upgrading(tmp_path) as (proxy, client, server):
        read_head(server)
        server.sendall(SWITCHED)
        read_head(client)
        ends = {"client": client, "server": server}
        ends[who].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ends[who].close()
        with pytest.raises(ConnectionResetError):
            read_to_end(ends["server" if who == "client" else "client"])
        proxy.wait_for_access(rf" 101 \d+/\d+ {code} ")


# The websockets package on both sides.


def test_text_and_binary(proxy):
    with tunnel(proxy) as client:
        for message in ("", "text", "κόσμε", b"", b"\0\xff", "long " * 50_000, os.urandom(300_000)):
            client.send(message)
            assert client.recv(TIMEOUT) == message


def test_compression_is_between_the_two(proxy):
    with tunnel(proxy) as client:
        assert [type(each).__name__ for each in client.protocol.extensions] == ["PerMessageDeflate"]
        client.send("again and " * 100_000)
        assert client.recv(TIMEOUT) == "again and " * 100_000


def test_fragments(proxy):
    with tunnel(proxy, "/fragments") as client:
        client.send(["a ", "message ", "in ", "pieces"])
        assert list(client.recv_streaming()) == ["a m", "ess", "age", " in", " pi", "ece", "s", ""]


def test_pings_both_ways(proxy):
    with tunnel(proxy, "/ping") as client:
        assert client.ping(b"hello?").wait(TIMEOUT)
        assert client.recv(TIMEOUT) == "ponged"


def test_a_server_that_speaks_first(proxy):
    with tunnel(proxy, "/greet") as client:
        assert client.recv(TIMEOUT) == "hello"


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_large_message(proxy, compression):
    message = os.urandom(16 * MIB)
    with tunnel(proxy, compression=compression) as client:
        client.send(message)
        assert client.recv(TIMEOUT) == message


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_the_server_closes_with_a_code(proxy, code):
    with tunnel(proxy, f"/close/{code}/enough") as client:
        with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as closed:
            client.recv(TIMEOUT)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "enough")


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_the_client_closes_with_a_code(proxy, code):
    with tunnel(proxy) as client:
        client.close(code, "enough")
        assert (client.close_code, client.close_reason) == (code, "enough")


def test_a_server_that_dies(proxy):
    with tunnel(proxy, "/die") as client, pytest.raises(ConnectionClosedError) as closed:
        client.recv(TIMEOUT)
    assert closed.value.rcvd is None


def test_a_refused_handshake(proxy):
    with pytest.raises(InvalidStatus) as refused:
        tunnel(proxy, "/nowhere")
    assert (refused.value.response.status_code, refused.value.response.body) == (404, b"there is nothing\n")


async def chat(where, number):
    """40 messages, many of them under way at once; each must come back, in order."""
    messages = [f"{number}/{turn} " * random.randrange(1, 3000) for turn in range(40)]
    async with connect_async(where, max_size=None, proxy=None, open_timeout=TIMEOUT) as client:
        sending = asyncio.ensure_future(send_all(client, messages))
        async with asyncio.timeout(TIMEOUT * 3):
            assert [await client.recv() for _ in messages] == messages
        await sending
        await (await client.ping())


async def send_all(client, messages):
    for message in messages:
        await client.send(message)


def test_fifty_clients_at_once(proxy):
    async def all_of_them():
        await asyncio.gather(*(chat(url(proxy), number) for number in range(50)))

    asyncio.run(all_of_them())


# Others.


def test_a_client_of_aiohttp(proxy):
    async def talk():
        async with aiohttp.ClientSession() as session, session.ws_connect(url(proxy)) as client:
            for turn in range(20):
                await client.send_str(f"turn {turn}")
                assert await client.receive_str(timeout=TIMEOUT) == f"turn {turn}"
            await client.send_bytes(bytes(MIB))
            assert await client.receive_bytes(timeout=TIMEOUT) == bytes(MIB)
            assert await client.close(code=4000)
            assert client.close_code == 4000

    asyncio.run(talk())


def test_uvicorn_serves_pages_and_sockets_behind_one_listener(tmp_path):
    with Uvicorn(tmp_path) as server, Gproxy(tmp_path, CONFIG, environ={"B1": server.address}) as proxy:
        with tunnel(proxy) as client, tunnel(proxy) as other:
            for turn in range(20):
                client.send(f"turn {turn}")
                other.send(b"%d" % turn)
                assert client.recv(TIMEOUT) == f"turn {turn}"
                assert other.recv(TIMEOUT) == b"%d" % turn
                with proxy.connect("web") as page:
                    page.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                    assert read_to_end(page).endswith(b"\r\n\r\nhello\n")
        proxy.stop()
        statuses = [line.split()[5] for line in proxy.access()]
        assert sorted(statuses) == ["101"] * 2 + ["200"] * 20
