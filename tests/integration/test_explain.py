"""`gproxy explain`: who could not serve and why, each try, the end, of whichever worker, in words."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from tests.support.admin import Admin
from tests.support.http_origin import HttpOrigin, respond
from tests.support.http_wire import Wire, read_request_head
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, command_environ

TIMEOUT = 20.0  # seconds
CONFIG = """
load_balancer: {backend_check_interval: 3600}
workers: 1
admin: {bind: "127.0.0.1:0"}
log: {access: off}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams:
  app:
    backends:
      - {name: full, address: "${FULL}", max_connections: 1}
      - {name: dying, address: "${DYING}"}
      - {name: good, address: "${GOOD}"}
      - {name: dead, address: "${DEAD}"}
      - {name: drained, address: "${DRAINED}"}
      - {name: ejected, address: "${EJECTED}"}
      - {name: spare, address: "${SPARE}", backup: true}
"""
PAIR = """
load_balancer: {backend_check_interval: 3600}
workers: 2
admin: {bind: "127.0.0.1:0"}
log: {access: off}
listeners:
  - {name: web, bind: "127.0.0.1:0", mode: http, upstream: app, explain_header: true}
  - {name: raw, bind: "127.0.0.1:0", upstream: db}
upstreams:
  app: {backends: [{name: one, address: "${ONE}"}]}
  db: {balance: source_hash, backends: [{name: two, address: "${TWO}"}]}
"""


class Impatient(HttpOrigin):
    """It ends a connection when it is used once more, as a server does whose timer meets a request."""

    def converse(self, connection):
        wire = Wire(connection)
        if read_request_head(wire):  # a check asks nothing
            connection.sendall(respond(b"GET", b"once"))
            read_request_head(wire)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with (
        Origin("http", "one") as one,
        Origin("hello", "two") as two,
        Gproxy(tmp_path_factory.mktemp("pair"), PAIR, environ={"ONE": one.address, "TWO": two.address}) as proxy,
    ):
        yield proxy


def fetch(proxy, request_id, connection=None):
    """The response to one GET."""
    mine = connection or HTTPConnection(*proxy.address("web"), timeout=TIMEOUT)
    mine.request("GET", "/path", headers={"X-Request-ID": request_id})
    response = mine.getresponse()
    response.read()
    if connection is None:
        mine.close()
    return response


def run(proxy, *arguments):
    host, port = Admin(proxy).address
    return subprocess.run(
        [sys.executable, "-m", "gproxy", "explain", "--admin", f"{host}:{port}", *arguments],
        env=command_environ(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def explain(proxy, *arguments):
    """What it says, once it knows something: a client has its answer before the exchange is over."""
    done = eventually(lambda: (done := run(proxy, *arguments)).stdout and done, TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def without_numbers(text):
    return re.sub(r"\d+\.\d+\.\d+\.\d+:\d+", "ADDRESS", re.sub(r"[\d.]+ (us|ms|s)\b", "TIME", text))


def test_why_each_other_backend_did_not_serve(tmp_path):
    with ExitStack() as stack:
        kinds = {"FULL": "hold", "DYING": "http", "GOOD": "http", "DRAINED": "http", "EJECTED": "http", "SPARE": "http"}
        origins = {name: stack.enter_context(Origin(kind, name.lower())) for name, kind in kinds.items()}
        with Origin("http", "dead") as dead:
            environ = {"DEAD": dead.address} | {name: origin.address for name, origin in origins.items()}
        proxy = stack.enter_context(Gproxy(tmp_path, CONFIG, environ=environ))
        admin = Admin(proxy)
        admin.change("PUT", "/v1/upstreams/app/backends/drained", {"administrative": "drain"})
        eventually(lambda: admin.backend("drained")["administrative"] == "drain")
        admin.change("POST", "/v1/upstreams/app/backends/ejected/eject", {"seconds": 600})
        eventually(lambda: admin.backend("ejected")["ejected"] == 1)
        held = stack.enter_context(proxy.connect("web"))
        held.sendall(b"GET /held HTTP/1.1\r\nHost: a\r\nX-Request-ID: held\r\n\r\n")
        assert "    connection  a fresh one" in explain(proxy, "held")
        origins["DYING"].kill()
        assert fetch(proxy, "mine").status == 200

        assert "try 1       full: its turn" in explain(proxy, "held")
        assert "  ended       not yet" in explain(proxy, "held")
        excluded = "dead: down; drained: draining; ejected: ejected after failures; "
        served = eventually(lambda: "ended       --" in (text := explain(proxy, "mine")) and text, TIMEOUT)
    assert without_numbers(served).splitlines() == [
        "request mine: GET /path HTTP/1.1",
        "  client      ADDRESS at listener web, worker 0, ended TIME ago",
        "  upstream    app, round_robin",
        "  try 1       dying: its turn",
        "    candidates  dying, good",
        f"    excluded    {excluded}spare: a backup, and others can serve; full: at its connection limit",
        "    failed      ADDRESS: Connection refused",
        "  try 2       good: the only candidate",
        "    candidates  good",
        f"    excluded    {excluded}dying: tried already; spare: a backup, and others can serve; "
        "full: at its connection limit",
        "    connection  a fresh one: none was idle",
        "  answered    200",
        re.search("  bytes .*", served)[0],
        "  timers      head read TIME, waited TIME, connected TIME, response TIME, in all TIME",
        "  ended       --  Both sides finished.",
    ]


def test_a_pooled_connection_that_died(tmp_path):
    with Impatient("one") as one, Origin("hello", "two") as two:
        environ = {"ONE": one.address, "TWO": two.address}
        with Gproxy(tmp_path, PAIR, environ=environ) as proxy:
            client = HTTPConnection(*proxy.address("web"), timeout=TIMEOUT)
            fetch(proxy, "first", client)
            response = fetch(proxy, "second", client)
            client.close()
            assert response.getheader("X-Gproxy-Explain") == "one; policy=round_robin; pool=miss; tries=2"
            text = explain(proxy, "second")
            failed = json.loads(explain(proxy, "--failed", "--json"))
    assert "    failed      its idle connection ended before a response, as idle ones may\n" in text
    assert "    connection  a fresh one: a pooled one had just ended, so a fresh one was asked for\n" in text
    assert [story["request_id"] for story in failed["stories"]] == ["second"]


def test_stories_come_from_all_workers(pair):
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: fetch(pair, f"of-{number}").status, range(24)))
    assert statuses == [200] * 24

    def found():
        document = json.loads(explain(pair, "--last", "100", "--json"))
        ids = {story["request_id"] for story in document["stories"]}
        return {f"of-{number}" for number in range(24)} <= ids and document

    document = eventually(found, TIMEOUT)
    assert {story["worker"] for story in document["stories"]} == {0, 1}
    ages = [story["ended"] for story in document["stories"]]
    assert ages == sorted(ages)
    assert len(json.loads(explain(pair, "--last", "3", "--json"))["stories"]) == 3


def test_a_worker_that_stands_still_is_missed(pair):
    fetch(pair, "whichever")
    with pair.stopped():
        done = run(pair)
    assert (done.returncode, done.stderr) == (0, "gproxy: 1 of 2 workers did not answer in time\n")


def test_a_tcp_session_by_its_clients_address(pair):
    with pair.connect("raw") as client:
        address = "{}:{}".format(*client.getsockname())
        assert client.recv(100)
        text = explain(pair, address)
    assert text.splitlines()[0] == f"tcp session of {address}"
    assert "  upstream    db, source_hash\n  try 1       two: the only candidate\n" in text
    assert "    connection  a fresh one: pool.reuse is never\n" in text


def test_what_is_not_known(pair):
    done = run(pair, "no-such-id")
    kept = "each worker keeps its last thousand or so"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gproxy: nothing is known of no-such-id; {kept}\n"


def test_a_wrong_question(pair):
    done = run(pair, "--last", "1000")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gproxy: last must be a whole number from 1 to 100\n"
    admin = Admin(pair)
    for query, error in (
        ("request_id=", "request_id must not be empty"),
        ("client=", "client must not be empty"),
        ("failed=maybe", "failed must be true or false"),
    ):
        reply = admin.ask("GET", f"/v1/explain?{query}")
        assert (reply.status, reply.json["error"]) == (400, error)
