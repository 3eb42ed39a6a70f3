"""Http checks with `use_pool`, in process: over which connection they go, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gevent
import pytest

from gproxy import config
from gproxy.building import checks_of
from gproxy.core.settings import HealthCheckSettings, Probe
from gproxy.metrics import BackendStats
from gproxy.net.dial import dial
from gproxy.probes import ProbeFailed, ProbeTarget, probe
from gproxy.probes_http import BODY_LIMIT
from gproxy.upstream import Upstream
from gproxy.worker import Worker
from tests.support.clock import FakeClock
from tests.support.embedded import EmbeddedHttp, backend
from tests.support.http_peer import (
    Head,
    borrowed,
    get,
    idle,
    nothing_left,
    ok,
    read_head,
    read_response,
    response,
    serve,
)
from tests.support.loopback import TIMEOUT, End, Peer, PlayedBackend
from tests.support.poll import eventually

CHUNKED = "Transfer-Encoding: chunked"
HTML = "Content-Type: text/html"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def proxy(played: PlayedBackend) -> Iterator[EmbeddedHttp]:
    with EmbeddedHttp(backend(played)) as proxy:
        yield proxy


class Check:
    """A check on its way."""

    def __init__(self, proxy: EmbeddedHttp, played: PlayedBackend, *, timeout: float = TIMEOUT, **keys: Any):
        settings = HealthCheckSettings(type=Probe.HTTP, use_pool=True, path="/health", timeout=timeout, **keys)
        (lender,) = proxy.backends
        connect = partial(dial, played.endpoint)
        target = ProbeTarget(settings, "b1.example", connect, lender, proxy.worker._clock)
        self.greenlet = gevent.spawn(_outcome, target)

    def outcome(self) -> str:
        said = self.greenlet.get(timeout=TIMEOUT)
        assert isinstance(said, str)
        return said


def _outcome(target: ProbeTarget) -> str:
    try:
        probe(target)
    except ProbeFailed as failure:
        return str(failure)
    return "passed"


def used(proxy: EmbeddedHttp, played: PlayedBackend) -> Peer:
    """A connection that a client's exchange has left in the pool: the backend's end of it."""
    client = proxy.connect()
    client.send(get("/"))
    server = played.accept()
    read_head(server)
    server.send(ok())
    read_response(client)
    assert (idle(proxy), borrowed(proxy)) == (1, 0)
    return server


def asked(server: Peer, connection: bytes = b"keep-alive") -> Head:
    head = read_head(server)
    assert head.start == b"GET /health HTTP/1.1"
    assert head.get("Host") == b"b1.example"
    assert head.get("Connection") == connection
    return head


def session_counts(proxy: EmbeddedHttp) -> tuple[int, int, int]:
    stats: BackendStats = proxy.backends[0].stats
    return stats.connects, stats.reuses, stats.connect_failures


# --- which connection -----------------------------------------------------------------------


def test_an_idle_connection_is_used_and_given_back(proxy: EmbeddedHttp, played: PlayedBackend) -> None:
    server = used(proxy, played)
    before = session_counts(proxy)
    check = Check(proxy, played)
    asked(server)
    assert (idle(proxy), borrowed(proxy)) == (0, 1)
    server.send(ok())
    assert check.outcome() == "passed"
    assert (idle(proxy), borrowed(proxy)) == (1, 0)
    assert session_counts(proxy) == before
    serve(proxy.connect(), server)
    assert not played.waiting()


def test_one_that_was_dialled_ahead_will_do(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="pool: {preconnect: 1}") as proxy:
        proxy.sweep()
        server = played.accept()
        eventually(lambda: idle(proxy) == 1)
        check = Check(proxy, played)
        asked(server)
        server.send(ok())
        assert check.outcome() == "passed"
        eventually(lambda: idle(proxy) == 2)  # the other one was dialled in its absence
        assert borrowed(proxy) == 0


def test_with_nothing_idle_it_dials_and_leaves_the_connection_to_the_next_check(
    proxy: EmbeddedHttp, played: PlayedBackend
) -> None:
    check = Check(proxy, played)
    server = played.accept()
    asked(server)
    assert borrowed(proxy) == 1
    server.send(ok())
    assert check.outcome() == "passed"
    assert (idle(proxy), borrowed(proxy), session_counts(proxy)) == (1, 0, (0, 0, 0))
    check = Check(proxy, played)
    asked(server)
    server.send(ok())
    assert check.outcome() == "passed"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_used_connection_that_dies_unanswered_is_no_failure(
    proxy: EmbeddedHttp, played: PlayedBackend, end: str
) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    getattr(server, end)()
    fresh = played.accept()
    asked(fresh)
    assert (idle(proxy), borrowed(proxy)) == (0, 1)
    fresh.send(ok())
    assert check.outcome() == "passed"


def test_a_fresh_one_that_dies_unanswered_is_a_failure(proxy: EmbeddedHttp, played: PlayedBackend) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    read_head(server)
    server.close()
    fresh = played.accept()
    read_head(fresh)
    fresh.close()
    assert check.outcome() == "broken answer: the connection ended before the response's head did"
    assert not played.waiting()


@pytest.mark.parametrize("end", ["close", "reset"])
def test_one_that_dies_within_its_answer_is_a_failure(proxy: EmbeddedHttp, played: PlayedBackend, end: str) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    server.send(b"H")
    server.wait_acknowledged()
    gevent.sleep(0)  # it is read
    getattr(server, end)()
    assert check.outcome().startswith("broken answer: ")
    assert (idle(proxy), borrowed(proxy)) == (0, 0)
    assert not played.waiting()


def test_a_pooled_connections_end_teaches_how_long_one_lives(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played), clock=clock) as proxy:
        server = used(proxy, played)
        clock.advance(5.0)
        check = Check(proxy, played)
        asked(server)
        server.close()
        fresh = played.accept()
        read_head(fresh)
        fresh.send(ok())
        assert check.outcome() == "passed"
        assert proxy.backends[0].pool.idle_limit <= 5.0


def test_what_the_backend_promises_of_idle_connections_is_heard(proxy: EmbeddedHttp, played: PlayedBackend) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    server.send(ok(b"ok", "Keep-Alive: timeout=5"))
    assert check.outcome() == "passed"
    assert proxy.backends[0].pool.idle_limit <= 5.0


# --- limits ---------------------------------------------------------------------------------


def test_at_its_connection_limit_the_backend_is_dialled(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 1")) as proxy:
        client = proxy.connect()
        client.send(get("/"))
        server = played.accept()
        read_head(server)
        check = Check(proxy, played)
        fresh = played.accept()
        asked(fresh, b"close")
        assert borrowed(proxy) == 1
        fresh.send(ok())
        assert check.outcome() == "passed"
        assert borrowed(proxy) == 1
        server.send(ok())
        assert read_response(client).status == 200
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


def test_over_the_limit_idle_connections_are_left_alone(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 1")) as proxy:
        server = used(proxy, played)
        proxy.backends[0].pool.reserve()
        check = Check(proxy, played)
        fresh = played.accept()
        read_head(fresh)
        assert (idle(proxy), borrowed(proxy)) == (1, 1)
        fresh.send(ok())
        assert check.outcome() == "passed"
        proxy.backends[0].pool.release(None)
        serve(proxy.connect(), server)


def test_a_client_that_waits_for_the_slot_gets_it_after_the_check(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 1")) as proxy:
        server = used(proxy, played)
        check = Check(proxy, played)
        asked(server)
        client = proxy.connect()
        client.send(get("/next"))
        eventually(lambda: len(proxy.worker.upstreams["app"].queue) == 1)
        server.send(ok())
        assert read_head(server).target == b"/next"
        assert check.outcome() == "passed"
        server.send(ok())
        assert read_response(client).status == 200
        assert (idle(proxy), borrowed(proxy)) == (1, 0)
        assert not played.waiting()


# --- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ok(b""), "passed"),
        (ok(b"x" * BODY_LIMIT), "passed"),
        (response("204 No Content"), "passed"),
        (response("200 OK", CHUNKED, body=b"2\r\nok\r\n0\r\nTrailer: t\r\n\r\n"), "passed"),
        (response("103 Early Hints") + ok(), "passed"),
        (response("200 OK", "Content-Length: 0", f"X: {'x' * 60_000}"), "passed"),
        (response("200 OK", "Connection: keep-alive", "Content-Length: 0", minor=0), "passed"),
        (response("500 Oh", "Content-Length: 3", body=b"oh!"), "status 500"),
    ],
    ids=["empty", "longest", "no-content", "chunked", "interim", "long-head", "http-1.0", "failure"],
)
@pytest.mark.parametrize("piece", [1 << 20, 700])
def test_after_these_the_connection_lives_on(
    proxy: EmbeddedHttp, played: PlayedBackend, answer: bytes, said: str, piece: int
) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    for at in range(0, len(answer), piece):
        server.send(answer[at : at + piece])
        gevent.sleep(0)
    assert check.outcome() == said
    assert (idle(proxy), borrowed(proxy)) == (1, 0)
    serve(proxy.connect(), server)


@pytest.mark.parametrize("answer", [response("103 Early Hints") + ok(), response("200 OK", CHUNKED, body=b"0\r\n\r\n")])
def test_an_answer_may_come_byte_by_byte(proxy: EmbeddedHttp, played: PlayedBackend, answer: bytes) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    for byte in answer:
        server.send(bytes([byte]))
        gevent.sleep(0.0005)
    assert check.outcome() == "passed"
    assert (idle(proxy), borrowed(proxy)) == (1, 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (response("200 OK", "Connection: close", "Content-Length: 2", body=b"ok"), "passed"),
        (response("200 OK", "Content-Length: 2", body=b"ok", minor=0), "passed"),
        (response("200 OK", "Content-Length: 2", body=b"ok!"), "passed"),
        (response("204 No Content", body=b"!"), "passed"),
        (response("200 OK", HTML, body=b"until close"), "passed"),
        (response("200 OK", f"Content-Length: {BODY_LIMIT + 1}"), "passed"),
        (response("200 OK", CHUNKED, body=b"%x\r\n%b\r\n" % (BODY_LIMIT + 1, b"x" * (BODY_LIMIT + 1))), "passed"),
        (response("101 Switching Protocols", "Connection: upgrade", "Upgrade: x"), "status 101"),
        (response("200 OK", CHUNKED, "Content-Length: 2", body=b"ok"), "refused by the parser"),
        (response("200 OK", "Content-Length: 2", "Content-Length: 2", body=b"ok"), "refused by the parser"),
        (response("200 OK", CHUNKED, body=b"zz\r\n"), "not a chunk size"),
        (response("200 OK", f"X: {'x' * BODY_LIMIT}"), "the response head is too long"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * BODY_LIMIT, "the response head is too long"),
        (b"HTTP/1.1 200 OK\nX: x\n", "a CR or LF on its own"),
        (response("100 Continue", f"X: {'x' * 60_000}") * 2, "too many interim responses"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the response does not start with an HTTP/1.x status line"),
    ],
    ids=["close", "http-1.0", "leftover", "leftover-204", "until-close", "long", "long-chunked", "switching",
         "two-framings", "two-lengths", "bad-chunk", "long-head", "endless-head", "bare-lf", "interims", "not-http"],
)  # fmt: skip
def test_after_these_it_is_closed(proxy: EmbeddedHttp, played: PlayedBackend, answer: bytes, said: str) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    server.send(answer)
    assert said in check.outcome()
    assert server.rest()[0] == b""
    assert (idle(proxy), borrowed(proxy)) == (0, 0)
    assert not played.waiting()


def test_bytes_behind_the_answer_are_counted(proxy: EmbeddedHttp, played: PlayedBackend) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    server.send(ok() + b"more")
    assert check.outcome() == "passed"
    assert proxy.dirty == 1


@pytest.mark.parametrize("framing", ["Content-Length: 3", CHUNKED])
def test_a_body_that_is_cut_short_is_a_failure(proxy: EmbeddedHttp, played: PlayedBackend, framing: str) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    server.send(response("200 OK", framing, body=b"2\r"))
    server.close()
    assert check.outcome().startswith("broken answer: the body ended")
    assert (idle(proxy), borrowed(proxy)) == (0, 0)


LACKS = "status 200, but the body lacks 'well'"


@pytest.mark.parametrize(
    ("lines", "body", "said", "kept"),
    [
        (["Content-Length: 9"], b"quitewell", "passed", 1),
        (["Content-Length: 9"], b"quite ill", LACKS, 1),
        ([CHUNKED], b"2\r\nwe\r\n2\r\nll\r\n0\r\n\r\n", "passed", 1),
        ([HTML], b"well, and so on", "passed", 0),
        ([HTML], b"x" * (BODY_LIMIT - 4) + b"well", "passed", 0),
        ([HTML], b"x" * (BODY_LIMIT - 3) + b"well", LACKS, 0),
        ([HTML], b"x" * BODY_LIMIT, LACKS, 0),
        ([f"Content-Length: {10 * BODY_LIMIT}"], b"well, and so on", "passed", 0),
        ([f"Content-Length: {10 * BODY_LIMIT}"], b"x" * (BODY_LIMIT - 3) + b"well", LACKS, 0),
    ],
)
def test_the_body_is_searched(
    proxy: EmbeddedHttp, played: PlayedBackend, lines: list[str], body: bytes, said: str, kept: int
) -> None:
    server = used(proxy, played)
    check = Check(proxy, played, expect_body="well")
    asked(server)
    server.send(response("200 OK", *lines, body=body))
    assert check.outcome() == said
    assert (idle(proxy), borrowed(proxy)) == (kept, 0)


@pytest.mark.parametrize(("wanted", "said"), [("well", "passed"), ("ill", "status 200, but the body lacks 'ill'")])
def test_a_body_until_close_may_end(proxy: EmbeddedHttp, played: PlayedBackend, wanted: str, said: str) -> None:
    server = used(proxy, played)
    check = Check(proxy, played, expect_body=wanted)
    asked(server)
    server.send(response("200 OK", HTML, body=b"well"))
    server.close()
    assert check.outcome() == said
    assert (idle(proxy), borrowed(proxy)) == (0, 0)


# --- interruptions --------------------------------------------------------------------------

UNFINISHED = [b"", b"HTTP/1.1 200", response("103 Early Hints"), response("200 OK", "Content-Length: 3", body=b"no")]


@pytest.mark.parametrize("answer", UNFINISHED)
def test_a_timeout_leaves_the_pool_right(proxy: EmbeddedHttp, played: PlayedBackend, answer: bytes) -> None:
    server = used(proxy, played)
    check = Check(proxy, played, timeout=0.3)
    asked(server)
    server.send(answer)
    assert check.outcome() == "no answer within 0.3 s"
    assert server.rest()[0] == b""
    assert (idle(proxy), borrowed(proxy)) == (0, 0)
    assert not played.waiting()


@pytest.mark.parametrize("answer", UNFINISHED)
def test_so_does_a_kill(proxy: EmbeddedHttp, played: PlayedBackend, answer: bytes) -> None:
    server = used(proxy, played)
    check = Check(proxy, played)
    asked(server)
    server.send(answer)
    server.wait_acknowledged()
    gevent.sleep(0)
    check.greenlet.kill()
    assert server.rest()[0] == b""
    assert (idle(proxy), borrowed(proxy)) == (0, 0)


def test_both_tries_share_one_timeout(proxy: EmbeddedHttp, played: PlayedBackend) -> None:
    server = used(proxy, played)
    began = time.monotonic()
    check = Check(proxy, played, timeout=1.0)
    asked(server)
    gevent.sleep(0.5)
    server.close()
    fresh = played.accept()
    assert check.outcome() == "no answer within 1 s"
    assert time.monotonic() - began < 1.45
    read_head(fresh)
    assert fresh.rest() == (b"", End.FIN)
    assert (idle(proxy), borrowed(proxy)) == (0, 0)


# --- who may use the pool -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "pool", "lends"),
    [("type: http, use_pool: true", "", True), ("type: http, use_pool: true", "pool: {reuse: never},", False),
     ("type: http", "", False)],
)  # fmt: skip
def test_the_pool_lends_where_connections_are_shared(check: str, pool: str, lends: bool) -> None:
    text = f"""
    log: {{access: off}}
    listeners: [{{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}}]
    upstreams: {{app: {{{pool} health_check: {{{check}}}, backends: [{{address: "127.0.0.1:1"}}]}}}}
    """
    worker = Worker(config.parse(text, "test", {}))
    (checked,) = checks_of(worker.upstreams.values(), Upstream.flipped)
    assert checked.target.lender is (worker.upstreams["app"].backends[0] if lends else None)
