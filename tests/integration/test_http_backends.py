"""Real servers behind an http listener: what comes through gproxy is what comes without it."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.support.ends import TIMEOUT, accept, address, listening, read_to_end
from tests.support.poll import eventually
from tests.support.proxy import Gproxy
from tests.support.web_apps import blocks, digest_of
from tests.support.web_servers import Gunicorn, Nginx, Uvicorn

pytestmark = pytest.mark.xdist_group("http-backends")

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""
CONFIG_UNCHECKED = CONFIG.replace("{backends:", "{health_check: {type: none}, backends:")
MIB = 1024 * 1024

APPLICATIONS = {
    "gunicorn-sync": lambda directory: Gunicorn(directory, "sync"),
    "gunicorn-gthread": lambda directory: Gunicorn(directory, "gthread"),
    "uvicorn-httptools": Uvicorn,
    "uvicorn-h11": lambda directory: Uvicorn(directory, "h11"),
}

# Of one connection, or of gproxy itself, or of the second that it was sent in.
HOPS_OWN = {"connection", "keep-alive", "transfer-encoding", "via", "date"}


class Site:
    """A server, and gproxy in front of it."""

    def __init__(self, server, proxy):
        self.server = server
        self.proxy = proxy

    def connect(self):
        return closing(http.client.HTTPConnection(*self.proxy.address("web"), timeout=TIMEOUT))

    def connect_directly(self):
        return closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT))

    def reused(self):
        """How each exchange so far came by its connection to the server."""
        return [line.split()[10] for line in self.proxy.access()]


@pytest.fixture(scope="module", params=APPLICATIONS)
def site(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    with APPLICATIONS[request.param](directory) as server:
        with Gproxy(directory, CONFIG, environ={"B1": server.address}) as proxy:
            yield Site(server, proxy)
        assert "Traceback" not in proxy.log()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    directory = tmp_path_factory.mktemp("nginx")
    with Nginx(directory) as server:
        (server.files / "alphabet.txt").write_text("abcdefghijklmnopqrstuvwxyz")
        (server.files / "long.txt").write_text("all work and no play\n" * 1000)
        (server.files / "empty.txt").write_text("")
        (server.files / "folder").mkdir()
        with Gproxy(directory, CONFIG, environ={"B1": server.address}) as proxy:
            yield Site(server, proxy)
        assert "Traceback" not in proxy.log()


def ask(connection, method, path, body=None, **more):
    """Status, reason, the fields that are not the connection's, and the body."""
    named = {"Host": "app.example"} | {name.replace("_", "-"): value for name, value in more.items()}
    connection.request(method, path, body, named, encode_chunked=not isinstance(body, bytes | None))
    response = connection.getresponse()
    fields = [(name.lower(), value) for name, value in response.getheaders() if name.lower() not in HOPS_OWN]
    return response.status, response.reason, sorted(fields), response.read()


def both(site, *request, **more):
    """The answer, which must be the same through gproxy, and the second time, too."""
    with site.connect_directly() as direct, site.connect() as through:
        expected = ask(direct, *request, **more)
        assert ask(through, *request, **more) == expected
        assert ask(through, *request, **more) == expected
    return expected


def blob(size):
    return b"".join(blocks(size))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/hello", 200),
        ("HEAD", "/hello", 200),
        ("OPTIONS", "/hello", 200),
        ("GET", "/stream", 200),
        ("HEAD", "/stream", 200),
        ("GET", "/nothing", 204),
        ("DELETE", "/nothing", 204),
        ("HEAD", "/nothing", 204),
        ("GET", "/elsewhere", 404),
        ("GET", "/caf%C3%A9?a=1&b=%20&a=2", 404),
        ("POST", "/echo", 200),
        ("GET", "/big?size=1000000", 200),
        ("GET", "/big?size=1000000&stream=1", 200),
        ("HEAD", "/big?size=1000000", 200),
    ],
)
def test_a_response_to_a_request_without_a_body(site, method, path, status):
    assert both(site, method, path)[0] == status


def test_a_response_that_has_not_changed(site):
    status, _, fields, body = both(site, "GET", "/hello", If_None_Match='"hello"')
    assert (status, body) == (304, b"")
    assert ("etag", '"hello"') in fields


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("size", [1, 3000, 300_000])
def test_a_body_of_known_length_comes_and_goes(site, method, size):
    assert both(site, method, "/echo", blob(size), Content_Type="x/y")[3] == blob(size)


@pytest.mark.parametrize("size", [1, 3000, 300_000])
def test_a_chunked_body_comes_and_goes(site, size):
    with site.connect() as through:
        for _ in range(2):
            status, *_, body = ask(through, "POST", "/echo", iter([blob(size)[:1], blob(size)[1:]]))
            assert (status, body) == (200, blob(size))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload(site, chunked):
    whole = blob(20 * MIB)
    with site.connect() as through:
        body = blocks(20 * MIB) if chunked else whole
        status, *_, said = ask(through, "PUT", "/digest", body)
    assert (status, said.decode()) == (200, digest_of([whole]))


@pytest.mark.parametrize("stream", ["", "&stream=1"])
def test_a_large_download(site, stream):
    with site.connect() as through:
        through.request("GET", f"/big?size={50 * MIB}{stream}")
        response = through.getresponse()
        assert digest_of(iter(lambda: response.read(MIB), b"")) == digest_of(blocks(50 * MIB))


def test_each_piece_of_a_stream_comes_when_it_is_sent(site, tmp_path):
    gate = tmp_path / "gate"
    with site.connect() as through:
        through.request("GET", f"/steps?gate={gate}")
        response = through.getresponse()
        assert response.readline() == b"first\n"  # the second one is not to be had yet
        gate.touch()
        assert response.read() == b"second\n"


def test_a_refusal_that_comes_before_the_body_is_read(site):
    with site.connect() as through:
        through.putrequest("POST", "/refuse")
        through.putheader("Content-Length", str(100 * MIB))
        through.endheaders(b"only the first of it")
        response = through.getresponse()
        assert response.will_close  # what follows is the body's, and no request
        assert (response.status, response.read()) == (403, b"not for you\n")


def test_the_access_log_counts_what_came_of_an_upload_that_was_refused(tmp_path):
    head = b"PUT / HTTP/1.1\r\nHost: app.example\r\nContent-Length: %d\r\n\r\n" % (100 * MIB)
    with listening() as backend, Gproxy(tmp_path, CONFIG_UNCHECKED, environ={"B1": address(backend)}) as proxy:
        with proxy.connect("web") as client, ThreadPoolExecutor(1) as sender:
            client.sendall(head)
            sent = sender.submit(client.sendall, blob(10 * MIB))
            with accept(backend) as server:
                assert server.makefile("rb").read(10 * MIB)
                sent.result(TIMEOUT)
                server.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
                assert read_to_end(client).startswith(b"HTTP/1.1 403 ")
        line = proxy.wait_for_access(r" 403 \d+/\d+ ")
        assert 10 * MIB <= int(line.split()[1].partition("/")[0]) <= 10 * MIB + len(head)


def test_the_server_learns_who_asks_for_what(site):
    with site.connect() as through:
        *_, body = ask(through, "GET", "/fields", X_Own="kept")
        client = through.sock.getsockname()[0] if through.sock else "127.0.0.1"
    seen = {name.lower(): value for name, value in json.loads(body)}
    assert (seen["host"], seen["x-own"]) == ("app.example", "kept")
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"], seen["x-forwarded-host"]) == (
        client, "http", "app.example",
    )  # fmt: skip
    assert seen["x-request-id"]
    assert seen["via"] == "1.1 gproxy"


def mixed(site, number):
    """A client's 40 requests of all kinds on one connection, where the server keeps it."""
    with site.connect() as through:
        for turn in range(8):
            mark = f"{number}/{turn}".encode() * 50
            assert ask(through, "POST", "/echo", mark)[3] == mark
            assert ask(through, "POST", "/echo", iter([mark, mark]))[3] == mark + mark
            assert ask(through, "HEAD", "/hello")[0::3] == (200, b"")
            assert ask(through, "GET", "/nothing")[0::3] == (204, b"")
            assert ask(through, "GET", f"/elsewhere/{number}/{turn}")[3].endswith(b"/%d/%d\n" % (number, turn))
            assert len(ask(through, "GET", "/stream")[3]) == 890


def test_clients_of_all_kinds_at_once(site):
    with ThreadPoolExecutor(12) as clients:
        list(clients.map(lambda number: mixed(site, number), range(12)))


def test_connections_are_used_again_where_the_server_keeps_them(site):
    with site.connect() as through:
        for _ in range(20):
            ask(through, "GET", "/hello")
        address = "{}:{}".format(*through.sock.getsockname())
    lines = eventually(lambda: own_lines(site, address, 20), what="20 lines of the access log")
    kept = "fresh" if "sync" in site.server.name else "reused"
    assert {line.split()[10] for line in lines[1:]} == {kept}


def own_lines(site, client, number):
    lines = [line for line in site.proxy.access() if line.startswith(f"{client} ")]
    return lines if len(lines) == number else None


def test_workers_that_retire_under_load_cost_no_request(tmp_path):
    with Gunicorn(tmp_path, "gthread", "--max-requests", "50") as server:
        with Gproxy(tmp_path, CONFIG, environ={"B1": server.address}) as proxy:
            site = Site(server, proxy)

            def client(_number):
                with site.connect() as through:
                    return {ask(through, "GET", "/hello")[0] for _ in range(100)}

            with ThreadPoolExecutor(4) as clients:
                assert set.union(*clients.map(client, range(4))) == {200}
        assert server.log().count("Booting worker") > 3


# nginx: files, ranges, compression, uploads.


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/alphabet.txt", 200),
        ("HEAD", "/alphabet.txt", 200),
        ("GET", "/long.txt", 200),
        ("GET", "/empty.txt", 200),
        ("HEAD", "/empty.txt", 200),
        ("GET", "/none.txt", 404),
        ("HEAD", "/none.txt", 404),
        ("GET", "/nothing", 204),
        ("GET", "/status", 200),
        ("GET", "/teapot", 418),
        ("GET", "/folder", 301),
        ("GET", "/folder/", 403),
        ("POST", "/alphabet.txt", 405),
    ],
)
def test_what_nginx_answers(nginx, method, path, status):
    assert both(nginx, method, path)[0] == status


@pytest.mark.parametrize(
    ("ranges", "status", "part"),
    [
        ("bytes=0-4", 206, b"abcde"),
        ("bytes=20-", 206, b"uvwxyz"),
        ("bytes=-3", 206, b"xyz"),
        ("bytes=26-", 416, b""),
    ],
)
def test_a_part_of_a_file(nginx, ranges, status, part):
    found = both(nginx, "GET", "/alphabet.txt", Range=ranges)
    assert found[0] == status
    assert part in found[3]


def test_several_parts_of_a_file(nginx):
    with nginx.connect() as through:
        status, _, fields, body = ask(through, "GET", "/alphabet.txt", Range="bytes=0-1,24-25")
    assert status == 206
    boundary = dict(fields)["content-type"].partition("boundary=")[2].encode()
    assert body.count(boundary) == 3
    assert b"\r\n\r\nab\r\n" in body
    assert b"\r\n\r\nyz\r\n" in body


def test_a_file_that_has_not_changed(nginx):
    fields = dict(both(nginx, "GET", "/alphabet.txt")[2])
    assert both(nginx, "GET", "/alphabet.txt", If_None_Match=fields["etag"])[0] == 304
    assert both(nginx, "GET", "/alphabet.txt", If_Modified_Since=fields["last-modified"])[0] == 304
    assert both(nginx, "GET", "/alphabet.txt", If_Match='"another"')[0] == 412


def test_a_file_that_is_compressed_on_its_way(nginx):
    _, _, fields, body = both(nginx, "GET", "/long.txt", Accept_Encoding="gzip")
    assert dict(fields)["content-encoding"] == "gzip"
    assert len(body) < 1000


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("expect", [False, True])
def test_an_upload_to_nginx(nginx, chunked, expect):
    whole = blob(5 * MIB)
    path = f"/uploads/{chunked}-{expect}.bin"
    more = {"Expect": "100-continue"} if expect else {}
    with nginx.connect() as through:
        assert ask(through, "PUT", path, blocks(5 * MIB) if chunked else whole, **more)[0] == 201
        assert ask(through, "GET", path)[3] == whole
        assert ask(through, "DELETE", path)[0] == 204
        assert ask(through, "GET", path)[0] == 404


def test_nginx_keeps_the_connections(nginx):
    with nginx.connect() as through:
        for _ in range(20):
            ask(through, "GET", "/alphabet.txt")
        address = "{}:{}".format(*through.sock.getsockname())
    lines = eventually(lambda: own_lines(nginx, address, 20), what="20 lines of the access log")
    assert {line.split()[10] for line in lines[1:]} == {"reused"}
