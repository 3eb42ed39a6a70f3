"""Real clients of an http listener: curl, requests, aiohttp and a browser."""

import asyncio
import json
import os
import random
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
import requests

from tests.support.browser import browser
from tests.support.ends import TIMEOUT
from tests.support.poll import eventually
from tests.support.proxy import Gproxy
from tests.support.servers import program
from tests.support.web_apps import blocks, digest_of
from tests.support.web_servers import Gunicorn, Nginx, Uvicorn

pytestmark = pytest.mark.xdist_group("http-clients")

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""
MIB = 1024 * 1024
LIMIT = 60  # seconds for one run of a client


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    with Gunicorn(directory, "gthread") as server:
        with Gproxy(directory, CONFIG, environ={"B1": server.address}) as proxy:
            yield proxy
        assert "Traceback" not in proxy.log()


@pytest.fixture(scope="module")
def base(site):
    """Where the clients find it."""
    return "http://{}:{}".format(*site.address("web"))


@pytest.fixture(scope="module")
def upload(tmp_path_factory):
    """A file of 5 MiB, and what /digest says of it."""
    path = tmp_path_factory.mktemp("upload") / "file"
    path.write_bytes(b"".join(blocks(5 * MIB)))
    return path, digest_of(blocks(5 * MIB))


# curl


def curl(*arguments, status=0, **more):
    """What it wrote, and its protocol: what it sent and received, by `--verbose`."""
    command = [program("curl", "curl"), "--disable", "--silent", "--show-error", "--verbose", "--max-time", str(LIMIT)]
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, env=environ, timeout=LIMIT, **more)
    said = done.stderr.decode()
    assert done.returncode == status, said
    return done.stdout, said


def statuses(said):
    """Of the responses, interim ones included."""
    return re.findall(r"(?m)^< HTTP/(1\.\d \d+)", said)


def test_curl_gets_a_page(base):
    body, said = curl(f"{base}/hello")
    assert (body, statuses(said)) == (b"hello\n", ["1.1 200"])


@pytest.mark.parametrize("path", ["/hello", "/stream", "/big?size=1000000", "/big?size=1000000&stream=1"])
def test_curl_of_http_1_0_gets_what_the_others_get(base, path):
    old, said = curl("--http1.0", f"{base}{path}")
    new, _ = curl(f"{base}{path}")
    assert old == new
    assert statuses(said) == ["1.1 200"]
    assert "transfer-encoding" not in said.lower()


def test_curl_of_http_1_0_that_keeps_its_connection(base):
    url = f"{base}/hello"
    written, said = curl("--http1.0", "-H", "Connection: keep-alive", "-w", "%{num_connects} ", url, url)
    assert written == b"hello\n1 hello\n0 "
    assert said.count("< Connection: keep-alive") == 2


def test_curl_offers_http_2_and_stays_with_1_1(base):
    body, said = curl("--http2", f"{base}/hello")
    assert (body, statuses(said)) == (b"hello\n", ["1.1 200"])


def test_curl_with_gproxy_as_its_proxy(base):
    """It sends the absolute form of the target."""
    body, _ = curl("--proxy", base, "http://app.example/fields")
    assert dict(json.loads(body))["Host"] == "app.example"


def test_curl_may_not_tunnel(base):
    _, said = curl("--proxy", base, "--proxytunnel", "http://app.example/hello", status=56)
    assert statuses(said) == ["1.1 501"]


@pytest.mark.parametrize("path", ["/hello", "/stream", "/nothing"])
def test_curl_asks_for_the_head_alone(base, path):
    head, said = curl("--head", f"{base}{path}", f"{base}/hello")
    assert len(statuses(said)) == 2
    assert head.count(b"HTTP/1.1 20") == 2


def test_curl_keeps_one_connection_for_many_urls(base):
    paths = ["/hello", "/stream", "/nothing", "/elsewhere", "/big?size=100000", "/hello"]
    written, said = curl("-w", "%{stderr}connects=%{num_connects}\n", *(f"{base}{path}" for path in paths))
    assert statuses(said) == ["1.1 200", "1.1 200", "1.1 204", "1.1 404", "1.1 200", "1.1 200"]
    assert re.findall(r"connects=(\d)", said) == ["1", "0", "0", "0", "0", "0"]
    assert written.endswith(b"hello\n")


def test_curl_in_parallel(base):
    written, _ = curl(
        "--parallel", "--parallel-max", "20", f"{base}/echo?[1-200]", "--data", "x", "-w", "%{http_code} "
    )
    assert written.count(b"200 ") == 200


@pytest.mark.parametrize("stream", ["", "&stream=1"])
def test_curl_downloads_much(base, stream, tmp_path):
    curl("--output", tmp_path / "file", f"{base}/big?size={200 * MIB}{stream}")
    with (tmp_path / "file").open("rb") as file:
        assert digest_of(iter(lambda: file.read(MIB), b"")) == digest_of(blocks(200 * MIB))


def test_curl_uploads_after_it_was_told_to_go_on(base, upload):
    path, digest = upload
    body, said = curl("-T", path, "-H", "Expect: 100-continue", "--expect100-timeout", LIMIT, f"{base}/digest")
    assert body.decode() == digest
    assert statuses(said) == ["1.1 100", "1.1 200"]


def test_curl_uploads_without_asking(base, upload):
    path, digest = upload
    body, said = curl("-T", path, "-H", "Expect:", f"{base}/digest")
    assert (body.decode(), statuses(said)) == (digest, ["1.1 200"])


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
def test_curl_uploads_what_it_reads(base, upload, expect):
    path, digest = upload
    with path.open("rb") as file:
        body, said = curl("-T", "-", "-H", expect, "--expect100-timeout", LIMIT, f"{base}/digest", stdin=file)
    assert "> Transfer-Encoding: chunked" in said
    assert body.decode() == digest


def test_curl_of_http_1_0_uploads(base, upload):
    path, digest = upload
    body, said = curl("--http1.0", "-T", path, f"{base}/digest")
    assert (body.decode(), statuses(said)) == (digest, ["1.1 200"])


def test_curl_keeps_its_body_when_it_is_refused(tmp_path, upload):
    options = ["-H", "Expect: 100-continue", "--expect100-timeout", LIMIT, "-w", "%{size_upload}"]
    # gunicorn would ask for the body whatever its application wants.
    with Uvicorn(tmp_path) as server, Gproxy(tmp_path, CONFIG, environ={"B1": server.address}) as proxy:
        body, said = curl("-T", upload[0], *options, "http://{}:{}/refuse".format(*proxy.address("web")))
    assert (body, statuses(said)) == (b"not for you\n0", ["1.1 403"])


def test_curl_sends_a_form_with_a_file(base, upload):
    body, _ = curl("-F", "name=value", "-F", f"file=@{upload[0]}", f"{base}/echo")
    assert b'name="name"\r\n\r\nvalue\r\n' in body
    assert b"".join(blocks(5 * MIB)) in body


# requests


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_a_session_of_requests_keeps_its_connection(site, base, session):
    for number in range(20):
        assert session.post(f"{base}/echo?own-{number}", json={"n": number}, timeout=TIMEOUT).json() == {"n": number}
    lines = eventually(lambda: logged(site, r"/echo\?own-\d+ ", 20), what="20 lines of the access log")
    assert len({line.split()[0] for line in lines}) == 1


def logged(proxy, pattern, number):
    lines = [line for line in proxy.access() if re.search(pattern, line)]
    return lines if len(lines) == number else None


def test_cookies_of_the_server_come_back(base, session):
    session.get(f"{base}/hello", timeout=TIMEOUT)
    assert session.cookies.get_dict() == {"a": "1", "b": "2"}
    seen = dict(session.get(f"{base}/fields", timeout=TIMEOUT).json())
    assert seen["Cookie"] == "a=1; b=2"


def test_a_generator_as_body(base, session):
    said = session.put(f"{base}/digest", data=blocks(5 * MIB), timeout=TIMEOUT)
    assert said.text == digest_of(blocks(5 * MIB))


def test_a_response_that_is_read_in_pieces(base, session):
    with session.get(f"{base}/big?size={20 * MIB}&stream=1", stream=True, timeout=TIMEOUT) as response:
        assert digest_of(response.iter_content(100_000)) == digest_of(blocks(20 * MIB))


def test_a_response_that_is_left_half_read(base, session):
    with session.get(f"{base}/big?size={200 * MIB}", stream=True, timeout=TIMEOUT) as response:
        assert response.raw.read(10) == next(blocks(10))
    assert session.get(f"{base}/hello", timeout=TIMEOUT).text == "hello\n"


def test_sessions_in_threads_get_their_own_answers(base):
    def client(number):
        with requests.Session() as session:
            session.trust_env = False
            for turn in range(50):
                mark = f"{number}/{turn} " * random.randrange(1, 2000)
                data = mark if turn % 2 else iter([mark.encode()])
                assert session.post(f"{base}/echo", data=data, timeout=TIMEOUT).text == mark

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(client, range(8)))


# aiohttp


def test_many_clients_of_aiohttp_at_once(base):
    async def one(client, number):
        mark = f"{number} " * (number * 7 % 3000)
        async with client.post(f"{base}/echo", data=mark) as response:
            assert (response.status, await response.text()) == (200, mark)
        async with client.get(f"{base}/stream") as response:
            assert len(await response.read()) == 890

    async def all_of_them():
        connector = aiohttp.TCPConnector(limit=200)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(LIMIT)) as client:
            await asyncio.gather(*(one(client, number) for number in range(500)))

    asyncio.run(all_of_them())


def test_aiohttp_streams_both_ways(base):
    async def pieces():
        for piece in blocks(5 * MIB):
            yield piece

    async def upload_and_download():
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LIMIT)) as client:
            async with client.put(f"{base}/digest", data=pieces(), expect100=True) as response:
                assert await response.text() == digest_of(blocks(5 * MIB))
            async with client.get(f"{base}/big?size={5 * MIB}&stream=1") as response:
                assert digest_of([piece async for piece in response.content.iter_any()]) == digest_of(blocks(5 * MIB))

    asyncio.run(upload_and_download())


def test_aiohttp_gives_up_and_asks_again(base, tmp_path):
    async def impatient():
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LIMIT)) as client:
            for _ in range(20):
                response = await client.get(f"{base}/steps?gate={tmp_path / 'gate'}")
                assert await response.content.readline() == b"first\n"
                response.close()  # amid the response
                async with client.get(f"{base}/hello") as after:
                    assert await after.text() == "hello\n"
                (tmp_path / "gate").touch()

    asyncio.run(impatient())


# A browser

PAGE = """<!doctype html>
<title>a page</title>
<link rel="stylesheet" href="style.css">
<script src="script.js" defer></script>
<img src="image.svg" id="image">
<p id="said">nothing yet</p>
"""
STYLE = "p { color: rgb(1, 2, 3) }"
IMAGE = '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"></svg>'
SCRIPT = """
async function ask() {
  const parts = [];
  for (let n = 0; n < 12; n++) parts.push(fetch(`part-${n}.txt`).then((part) => part.text()));
  const whole = (await Promise.all(parts)).join("");
  const upload = await fetch("uploads/from-a-browser.txt", {method: "PUT", body: "x".repeat(100000)});
  const again = await (await fetch("uploads/from-a-browser.txt")).text();
  const image = document.getElementById("image");
  const style = getComputedStyle(document.getElementById("said")).color;
  return `${whole}|${upload.status}|${again.length}|${image.naturalWidth}|${style}`;
}
addEventListener("load", () => ask().then(
  (said) => { document.getElementById("said").textContent = said; },
  (error) => { document.getElementById("said").textContent = `failed: ${error}`; }));
"""


def test_a_browser_shows_a_page_with_all_that_belongs_to_it(tmp_path):
    with Nginx(tmp_path) as server:
        named = {"index.html": PAGE, "style.css": STYLE, "script.js": SCRIPT, "image.svg": IMAGE}
        for name, content in named.items() | {(f"part-{n}.txt", chr(97 + n)) for n in range(12)}:
            (server.files / name).write_text(content)
        with Gproxy(tmp_path, CONFIG, environ={"B1": server.address}) as proxy:
            document = browser("http://{}:{}/".format(*proxy.address("web")))
            assert '<p id="said">abcdefghijkl|201|100000|30|rgb(1, 2, 3)</p>' in document
            proxy.stop()
            assert "Traceback" not in proxy.log()
            assert {line.split()[7] for line in proxy.access()} == {"--"}
