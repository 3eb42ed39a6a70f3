"""The plain exchange, served in one piece, and each place where it is handed over to the Exchange."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import gevent
import pytest

from gproxy.core.record import ExchangeRecord
from gproxy.core.termination import Ended
from gproxy.http.context import LONGEST
from tests.support.clock import FakeClock
from tests.support.embedded import EmbeddedHttp, backend
from tests.support.http_peer import (
    Message,
    borrowed,
    get,
    idle,
    nothing_left,
    ok,
    post,
    read_head,
    read_request,
    read_response,
    request,
    response,
)
from tests.support.loopback import End, Peer, PlayedBackend
from tests.support.poll import eventually

SERVED, HANDED_OVER, LEFT_ALONE, CUT_OFF = "served", "handed over", "left alone", "cut off"
DATE = "Date: today"  # a response without one is never plain, for gproxy adds it
TIMEOUTS = "response_timeout: 50, stall_timeout: 20"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def dated(body: bytes = b"ok", *lines: str) -> bytes:
    return ok(body, DATE, *lines)


def watched(proxy: EmbeddedHttp) -> list[str]:
    """What becomes of each request from now on, as the plain server sees it."""
    results: list[str] = []
    serve = proxy.service.serve_plain

    def look(session: Any, data: bytes) -> Any:
        try:
            result = serve(session, data)
        except BaseException:
            results.append(CUT_OFF)
            raise
        results.append(SERVED if result is True else HANDED_OVER if result else LEFT_ALONE)
        return result

    proxy.service.serve_plain = look
    return results


def exchange(client: Peer, server: Peer, what: bytes, answer: bytes, method: str = "GET") -> Message:
    """One request there and its response back."""
    client.send(what)
    read_request(server)
    server.send(answer)
    return read_response(client, method)


def warm(
    proxy: EmbeddedHttp, played: PlayedBackend, what: bytes | None = None, answer: bytes | None = None
) -> tuple[Peer, Peer]:
    """Both ends after one exchange: the connection is idle, and either head is remembered."""
    client = proxy.connect()
    client.send(what or get())
    server = played.accept()
    read_request(server)
    server.send(answer or dated())
    read_response(client)
    eventually(lambda: idle(proxy) == 1)
    return client, server


# --- the plain exchange -----------------------------------------------------------------------


def test_the_second_of_two_alike_exchanges_is_plain(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(get("/other?query"))
        head = read_head(server)
        server.send(dated(b"hi"))
        got = read_response(client)
        assert results == [SERVED]
        assert (head.target, got.status, got.body) == (b"/other?query", 200, b"hi")
        assert got.get("Date") == b"today"
        assert got.get("Via") == b"1.1 gproxy"
        assert got.get("Connection") is None
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


def test_a_plain_exchange_asks_the_backend_in_the_same_words(played: PlayedBackend) -> None:
    what = get("/", "Cookie: a=1", "X-Request-ID: mine", "Connection: X-Hop", "X-Hop: 1")
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(what)
        server = played.accept()
        first = read_head(server)
        server.send(dated())
        read_response(client)
        results = watched(proxy)
        client.send(what)
        assert read_head(server) == first
        server.send(dated())
        read_response(client)
        assert results == [SERVED]


def test_the_lines_added_for_a_client_belong_to_its_present_request(played: PlayedBackend) -> None:
    """Heads are remembered for all clients, what is added to them for the client and its last one."""
    with EmbeddedHttp(backend(played), listener="trusted_proxies: [127.0.0.1]") as proxy:
        one, other = get("/", "X-Forwarded-For: 192.0.2.1"), get("/", "X-Forwarded-For: 192.0.2.2")
        client, server = warm(proxy, played, one)
        exchange(client, server, other, dated())
        results = watched(proxy)
        for each in (client, proxy.connect()):
            for what, value in ((one, b"192.0.2.1, 127.0.0.1"), (other, b"192.0.2.2, 127.0.0.1")):
                each.send(what)
                assert read_head(server).get("X-Forwarded-For") == value
                server.send(dated())
                read_response(each)
        assert results == [SERVED] * 4


def test_each_request_counts_for_the_retry_budget_once(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played), clock=clock) as proxy:
        client, server = warm(proxy, played)
        budget = proxy.worker.upstreams["app"].retries
        results = watched(proxy)
        before = budget.pending
        exchange(client, server, get(), dated())
        exchange(client, server, get(), ok(b"a head without a date"))
        exchange(client, server, post(b"a body"), dated())
        assert results == [SERVED, HANDED_OVER, LEFT_ALONE]
        assert budget.pending == before + 3


def test_heads_that_were_never_seen(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(get("/", "X-New: 1"))
        assert read_head(server).get("X-New") == b"1"
        server.send(dated(b"hello", "X-New: 2"))
        got = read_response(client)
        assert (got.get("X-New"), got.body) == (b"2", b"hello")
        assert results == [SERVED]


def test_the_router_notes_a_plain_choice(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        exchange(client, server, get(), dated())
        second, first = (trace.tries[-1].decision for trace in proxy.worker.traces())
        assert (second.backend, second.upstream, second.request) == (first.backend, first.upstream, first.request)


def test_the_last_request_of_a_client_may_be_plain(played: PlayedBackend) -> None:
    what = get("/", "Connection: close")
    with EmbeddedHttp(backend(played)) as proxy:
        _, server = warm(proxy, played, what)
        results = watched(proxy)
        client = proxy.connect()
        got = exchange(client, server, what, dated())
        assert (got.get("Connection"), got.body) == (b"close", b"ok")
        assert client.rest() == (b"", End.FIN)
        assert results == [SERVED]
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


# --- the same as the Exchange's --------------------------------------------------------------------


def as_told(record: ExchangeRecord) -> ExchangeRecord:
    """Without what no two exchanges share."""
    return record._replace(started=0.0, request_id=b"")


def both_ways(proxy: EmbeddedHttp, played: PlayedBackend, clock: FakeClock) -> Iterator[Callable[[], None]]:
    """Twice: begin an exchange that takes half a second; first a plain one, then another one of the same bytes."""
    client, server = warm(proxy, played)
    results = watched(proxy)
    for extra in (b"", get()[:10]):

        def once(extra: bytes = extra) -> None:
            client.send(get("/same") + extra)
            read_request(server)
            clock.advance(0.5)
            server.send(dated())
            assert read_response(client).body == b"ok"

        yield once
    assert results[:2] == [SERVED, LEFT_ALONE]


def test_the_record_of_a_plain_exchange_is_that_of_any(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played), clock=clock) as proxy:
        for once in both_ways(proxy, played, clock):
            once()
        _, plain, other = proxy.ended(3)
        assert as_told(plain) == as_told(other)
        assert (plain.status, plain.code, plain.reused, plain.tresp, plain.ta) == (200, "--", True, 0.5, 0.5)


def test_a_plain_exchange_is_counted_as_any(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played, "name: b1"), clock=clock) as proxy:
        grown = []
        for once in both_ways(proxy, played, clock):
            before = proxy.worker.metrics.snapshot().counters
            once()
            proxy.ended(2 + len(grown))
            after = proxy.worker.metrics.snapshot().counters
            grown.append({name: after[name] - before[name] for name in after if after[name] != before[name]})
        assert grown[0] == grown[1]
        assert grown[0]["responses.web.2xx"] == 1


def test_the_id_of_a_plain_exchange_is_its_own(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        ids = []
        for _ in range(2):
            client.send(get())
            ids.append(read_head(server).get("X-Request-ID"))
            server.send(dated())
            read_response(client)
        assert results == [SERVED, SERVED]
        assert [record.request_id for record in proxy.ended(3)[1:]] == ids
        assert ids[0] != ids[1]


# --- requests that are none of its -------------------------------------------------------------------


def test_a_malformed_head_behind_plain_exchanges(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        exchange(client, server, get(), dated())
        client.send(get("/", "X Bad: 1"))
        refusal, _ = client.rest()
        assert refusal.startswith(b"HTTP/1.1 400 ")
        assert results == [SERVED, LEFT_ALONE]
        assert [record.bytes_out for record in proxy.ended(3)][-1] == len(refusal)


def test_a_head_that_comes_in_pieces(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(get("/", "X-New: 1")[:-2])
        eventually(lambda: results == [LEFT_ALONE])
        client.send(b"\r\n")
        assert read_head(server).get("X-New") == b"1"
        server.send(dated())
        assert read_response(client).status == 200


def test_a_head_that_is_too_long_to_be_remembered(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        for _ in range(2):
            exchange(client, server, get("/", "X-Long: " + "x" * LONGEST), dated())
        assert results == [LEFT_ALONE] * 2


@pytest.mark.parametrize(
    "what",
    [
        request("POST", "/"),
        request("PATCH", "/"),
        get("/", minor=0),
        request("PUT", "/", "Content-Length: 0"),
        request("PUT", "/", "Content-Length: 4", body=b"body"),
        get() + b"\r\n",
    ],
    ids=["POST", "PATCH", "HTTP/1.0", "a length of zero", "a body", "more behind it"],
)
def test_requests_that_are_never_plain(played: PlayedBackend, what: bytes) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        _, server = warm(proxy, played)
        results = watched(proxy)
        for _ in range(2):
            client = proxy.connect()
            assert exchange(client, server, what, dated()).body == b"ok"
        assert SERVED not in results
        assert HANDED_OVER not in results


def test_head_is_never_plain(played: PlayedBackend) -> None:
    """Else its response would seem to lack its body."""
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(request("HEAD"))
        assert read_head(server).start == b"HEAD / HTTP/1.1"
        server.send(dated()[: -len(b"ok")])
        assert read_response(client, "HEAD").get("Content-Length") == b"2"
        assert exchange(client, server, get(), dated()).body == b"ok"
        assert results == [LEFT_ALONE, SERVED]


@pytest.mark.parametrize("target", ["http://app.example/path", "*", "/#fragment"])
def test_a_target_that_wants_a_closer_look(played: PlayedBackend, target: str) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, _ = warm(proxy, played)
        results = watched(proxy)
        client.send(get(target))
        eventually(lambda: results)
        assert results == [LEFT_ALONE]


def test_a_request_line_above_the_limit(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="max_request_line: 200") as proxy:
        client, _ = warm(proxy, played)
        client.send(get("/" + "x" * 300))
        assert read_response(client).status == 414


def test_an_upstream_that_looks_inside_requests_serves_none_plainly(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="sticky: app") as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        assert exchange(client, server, get(), dated()).get("Set-Cookie") is not None
        assert results == [LEFT_ALONE]


def test_a_limited_backend_serves_none_plainly(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played, "max_connections: 2")) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        exchange(client, server, get(), dated())
        assert results == [LEFT_ALONE]


def moody(_candidates: Any, _request: Any) -> NoReturn:
    raise ValueError("not today")


def test_a_policy_that_fails_is_the_router_s_to_report(caplog: pytest.LogCaptureFixture) -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), upstream=f'balance: {{python: "{__name__}:moody"}}') as proxy:
            client, _ = warm(proxy, one)
            results = watched(proxy)
            client.send(get())
            server = two.accept()  # by round robin
            read_head(server)
            server.send(dated())
            assert read_response(client).status == 200
            assert results == [LEFT_ALONE]
            assert "not today" in caplog.text
            assert borrowed(proxy) == 0


# --- no connection at hand -----------------------------------------------------------------------------


def test_a_connection_that_was_dialled_ahead(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="pool: {preconnect: 1, max_uses: 1}") as proxy:
        eventually(lambda: idle(proxy) == 1)
        client, _ = warm(proxy, played)
        results = watched(proxy)
        exchange(client, played.accept(), get(), dated())
        assert results == [SERVED]
        assert proxy.ended(2)[1].reused is False
        assert proxy.backends[0].stats.reuses == 0


def test_a_connection_that_was_dialled_ahead_is_kept_like_any(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="pool: {preconnect: 1, max_uses: 2}") as proxy:
        eventually(lambda: idle(proxy) == 1)
        client = proxy.connect()
        first, second = played.accept(), None
        for number in range(3):
            client.send(get())
            if number < 2:
                read_head(first)
                first.send(dated())
            else:
                second = played.accept()
                read_head(second)
                results = watched(proxy)
                second.send(dated())
            read_response(client)
        assert second is not None
        exchange(client, second, get(), dated())
        assert results == [SERVED]
        assert [record.reused for record in proxy.ended(4)] == [False, True, False, True]


def test_without_an_idle_connection_one_is_dialled(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        server.close()
        eventually(lambda: idle(proxy) == 0)
        results = watched(proxy)
        client.send(get())
        server = played.accept()
        read_head(server)
        assert borrowed(proxy) == 1
        server.send(dated())
        assert read_response(client).status == 200
        assert results == [HANDED_OVER]
        record = proxy.ended(2)[1]
        assert (record.reused, record.retries, record.code) == (False, 0, "--")
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


def test_without_an_idle_connection_and_without_a_backend(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        server.close()
        played.stop()
        eventually(lambda: idle(proxy) == 0)
        results = watched(proxy)
        client.send(get())
        assert read_response(client).status == 503
        assert results == [HANDED_OVER]
        assert proxy.codes(2) == ["--", "SC"]
        assert borrowed(proxy) == 0


# --- backends that die ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Peer.close, Peer.reset], ids=["FIN", "RST"])
def test_a_backend_that_dies_before_a_byte_is_asked_again(played: PlayedBackend, how: Any) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(get("/again"))
        read_head(server)
        how(server)
        server = played.accept()
        assert read_head(server).target == b"/again"
        server.send(dated())
        assert read_response(client).status == 200
        assert results == [HANDED_OVER]
        record = proxy.ended(2)[1]
        assert (record.retries, record.reused, record.code) == (1, False, "--")
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


def test_a_backend_that_takes_no_request_is_asked_on_another_connection(tmp_path: Path) -> None:
    """Nothing of that could be seen before the write."""
    with PlayedBackend(tmp_path / "app.sock") as played, EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        server.sock.shutdown(socket.SHUT_RD)
        results = watched(proxy)
        client.send(get("/again"))
        server = played.accept()
        assert read_head(server).target == b"/again"
        server.send(dated())
        assert read_response(client).status == 200
        assert results == [HANDED_OVER]
        assert proxy.ended(2)[1].retries == 1


def test_the_fresh_connection_may_die_as_well(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        client.send(get())
        read_head(server)
        server.close()
        server = played.accept()
        read_head(server)
        server.close()
        assert read_response(client).status == 502
        assert proxy.codes(2) == ["--", "SH"]
        assert borrowed(proxy) == 0


def test_an_idle_time_that_ends_with_a_request_is_learned(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played), clock=clock) as proxy:
        client, server = warm(proxy, played)
        clock.advance(10.0)
        client.send(get())
        read_head(server)
        server.close()
        server = played.accept()
        read_head(server)
        server.send(dated())
        read_response(client)
        assert proxy.backends[0].pool.idle_limit == 8.0


# --- responses that are not plain -------------------------------------------------------------------------


def test_a_malformed_response_head(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        got = exchange(client, server, get(), dated(b"hello", "X Bad: 1"))
        assert got.status == 502
        assert results == [HANDED_OVER]
        assert (idle(proxy), borrowed(proxy)) == (0, 0)


def test_a_response_head_that_is_too_long_to_be_remembered(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        for _ in range(2):
            exchange(client, server, get(), dated(b"hello", "X-Long: " + "x" * LONGEST))
        assert results == [HANDED_OVER] * 2
        assert (idle(proxy), borrowed(proxy)) == (1, 0)
        assert proxy.ended(3)[1].reused is True


@pytest.mark.parametrize("cut", [1, 20, -2, -1])
def test_a_response_in_two_pieces(played: PlayedBackend, cut: int) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(get())
        read_head(server)
        server.send(dated()[:cut])
        eventually(lambda: results)
        server.send(dated()[cut:])
        assert read_response(client).body == b"ok"
        assert results == [HANDED_OVER]
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


def test_a_response_longer_than_it_says(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        assert exchange(client, server, get(), dated() + dated(b"no")).body == b"ok"
        assert results == [HANDED_OVER]
        assert proxy.dirty == 1
        assert server.rest()[0] == b""
        client.send(get("/next"))
        assert read_head(played.accept()).target == b"/next"


def test_a_response_shorter_than_it_says(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(get())
        read_head(server)
        server.send(dated()[:-1])
        server.close()
        assert client.rest()[1] is End.RESET
        assert results == [HANDED_OVER]
        record = proxy.ended(2)[1]
        assert (record.status, record.code) == (200, "SD")
        assert idle(proxy) == borrowed(proxy) == 0


@pytest.mark.parametrize(
    "answer",
    [
        response("200 OK", DATE, "Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        response("204 No Content", DATE),
        response("304 Not Modified", DATE, "Content-Length: 2"),
        ok(),
    ],
    ids=["chunked", "204", "304", "without a Date"],
)
def test_responses_that_are_never_plain(played: PlayedBackend, answer: bytes) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played, answer=answer)
        results = watched(proxy)
        for _ in range(2):
            assert exchange(client, server, get(), answer).status == int(answer[9:12])
        assert results == [HANDED_OVER, HANDED_OVER]


def test_an_interim_response_before_a_plain_one(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        assert exchange(client, server, get(), response("103 Early Hints") + dated()).status == 103
        assert read_response(client).body == b"ok"
        assert results == [HANDED_OVER]


def test_a_connection_that_its_backend_closes_is_not_kept(played: PlayedBackend) -> None:
    closing = dated(b"ok", "Connection: close")
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        exchange(client, server, get(), closing)
        assert server.rest() == (b"", End.FIN)
        client, server = warm(proxy, played)
        results = watched(proxy)
        assert exchange(client, server, get(), closing).get("Connection") is None
        assert server.rest() == (b"", End.FIN)
        assert results == [HANDED_OVER]
        assert idle(proxy) == 0


def test_a_promise_is_learned_though_its_head_is_remembered() -> None:
    promise = dated(b"ok", "Keep-Alive: timeout=5")
    with PlayedBackend() as one, PlayedBackend() as two, EmbeddedHttp(backend(one), backend(two)) as proxy:
        client = proxy.connect()
        servers = []
        for played, answer in ((one, promise), (two, dated())):
            client.send(get())
            servers.append(played.accept())
            read_head(servers[-1])
            servers[-1].send(answer)
            read_response(client)
        results = watched(proxy)
        exchange(client, servers[0], get(), promise)
        exchange(client, servers[1], get(), promise)
        assert results == [HANDED_OVER, HANDED_OVER]
        assert proxy.backends[1].pool.idle_limit == 4.0


# --- errors of the backend's ------------------------------------------------------------------------------

OH = response("500 Oh", DATE, "Content-Length: 2", body=b"oh")


def two_that_may_be_ejected(proxy: EmbeddedHttp, one: PlayedBackend, two: PlayedBackend) -> tuple[Peer, Peer, Peer]:
    """A client, and both backends after an exchange each: the first answered with 500."""
    client = proxy.connect()
    servers = []
    for played, answer in ((one, OH), (two, dated())):
        client.send(get())
        servers.append(played.accept())
        read_head(servers[-1])
        servers[-1].send(answer)
        read_response(client)
    return client, servers[0], servers[1]


def test_a_run_of_plain_errors_ejects() -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), upstream="passive_health: {server_errors: 2}") as proxy:
            client, failing, good = two_that_may_be_ejected(proxy, one, two)
            results = watched(proxy)
            assert exchange(client, failing, get(), OH).status == 500
            for _ in range(2):
                assert exchange(client, good, get(), dated()).status == 200
            assert results == [SERVED] * 3
            assert [b.stats.ejections for b in proxy.backends] == [1, 0]


def test_a_plain_error_counts_though_its_client_has_gone() -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), upstream="passive_health: {server_errors: 2}") as proxy:
            client, failing, _ = two_that_may_be_ejected(proxy, one, two)
            results = watched(proxy)
            client.send(get())
            read_head(failing)
            failing.send(OH)
            client.reset()
            eventually(lambda: results)
            assert results == [CUT_OFF]
            assert [b.stats.ejections for b in proxy.backends] == [1, 0]


def test_a_plain_success_ends_a_run_of_errors() -> None:
    with PlayedBackend() as one, PlayedBackend() as two:  # noqa: SIM117
        with EmbeddedHttp(backend(one), backend(two), upstream="passive_health: {server_errors: 2}") as proxy:
            client, failing, good = two_that_may_be_ejected(proxy, one, two)
            results = watched(proxy)
            for answer in (dated(), OH):
                exchange(client, failing, get(), answer)
                exchange(client, good, get(), dated())
            assert results == [SERVED] * 4
            assert [b.stats.ejections for b in proxy.backends] == [0, 0]


# --- interrupted ------------------------------------------------------------------------------------------


def waiting(proxy: EmbeddedHttp, client: Peer, server: Peer) -> Any:
    """The session, once its plain request is with the backend."""
    client.send(get("/slow"))
    read_head(server)
    return proxy.sessions[0]


def test_a_backend_that_does_not_answer(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played), upstream=TIMEOUTS, clock=clock) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        waiting(proxy, client, server)
        proxy.pass_time(clock, 49.75)
        gevent.sleep(0)
        assert results == []
        proxy.pass_time(clock, 0.25)
        assert read_response(client).status == 504
        assert client.rest() == (b"", End.FIN)
        assert server.rest()[0] == b""
        assert results == [HANDED_OVER]
        record = proxy.ended(2)[1]
        assert (record.code, record.status, record.target, record.reused) == ("sH", 504, b"/slow", True)
        assert idle(proxy) == borrowed(proxy) == 0


def test_killed_while_its_backend_works(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        waiting(proxy, client, server).end(Ended.KILLED)
        assert read_response(client).status == 503
        assert server.rest()[0] == b""
        record = proxy.ended(2)[1]
        assert (record.code, record.status) == ("KD", 503)
        assert idle(proxy) == borrowed(proxy) == 0


def test_a_client_that_resets_while_its_backend_works(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        waiting(proxy, client, server)
        client.reset()
        assert server.rest()[0] == b""
        record = proxy.ended(2)[1]
        assert (record.code, record.status, record.bytes_out) == ("CH", 0, 0)
        assert idle(proxy) == borrowed(proxy) == 0


def test_a_client_that_has_finished_still_gets_its_response(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        client.send(get())
        client.finish()
        read_head(server)
        server.send(dated())
        assert read_response(client).body == b"ok"
        assert client.rest() == (b"", End.FIN)
        assert results == [SERVED]
        assert proxy.closed() == {"normal": 1}


def test_a_backend_that_goes_down_meanwhile(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="down_action: close_sessions") as proxy:
        client, server = warm(proxy, played)
        session = waiting(proxy, client, server)
        assert session.backend is proxy.backends[0]
        proxy.worker._end_sessions(proxy.backends[0])
        assert read_response(client).status == 502
        assert proxy.codes(2) == ["--", "DD"]


def test_a_request_that_comes_while_the_one_before_it_is_served(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        session = waiting(proxy, client, server)
        client.send(get("/next"))
        eventually(lambda: session.data)
        server.send(dated(b"hi"))
        assert read_response(client).body == b"hi"
        assert read_head(server).target == b"/next"
        server.send(dated(b"ho"))
        assert read_response(client).body == b"ho"
        assert results == [SERVED, SERVED]


def test_a_drain_meanwhile_makes_it_the_last(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        waiting(proxy, client, server)
        drain = gevent.spawn(proxy.worker.drain, 10.0)
        eventually(lambda: proxy.service.draining)
        server.send(dated())
        assert read_response(client).get("Connection") == b"close"
        assert client.rest() == (b"", End.FIN)
        assert drain.get() is True
        assert results == [HANDED_OVER]


# --- the last write ---------------------------------------------------------------------------------------


def test_a_client_that_is_gone_by_the_time_of_its_response(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, server = warm(proxy, played)
        results = watched(proxy)
        waiting(proxy, client, server)
        server.send(dated())
        client.reset()
        record = proxy.ended(2)[1]
        assert results == [CUT_OFF]
        assert (record.code, record.status, record.bytes_out, record.target) == ("CD", 200, 0, b"/slow")
        assert proxy.closed() == {"CD": 1}
        assert (idle(proxy), borrowed(proxy)) == (1, 0)


WHOLE = dated(bytes(50_000))


def stalled(proxy: EmbeddedHttp, played: PlayedBackend) -> tuple[Peer, Peer, Any, int]:
    """A client that reads nothing, the backend, the session amid its last write, and the bytes sent before."""
    client, server = warm(proxy, played, answer=WHOLE)
    (session,) = proxy.sessions
    session.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while True:
        before = session.client.sent
        client.send(get("/slow"))
        read_head(server)
        server.send(WHOLE)
        end = before + len(WHOLE)
        eventually(lambda end=end: session.client.wants_room or session.client.sent >= end)
        if session.client.wants_room:
            return client, server, session, before


def test_a_client_that_takes_no_more_of_its_response(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(backend(played), upstream=TIMEOUTS, clock=clock) as proxy:
        client, server, session, before = stalled(proxy, played)
        results = watched(proxy)
        sent = session.client.sent - before
        assert borrowed(proxy) == 0  # the backend serves others meanwhile
        number = len(proxy.ended())
        proxy.pass_time(clock, 20.0)
        record = proxy.ended(number + 1)[-1]
        assert (record.code, record.status, record.bytes_out) == ("cD", 200, sent)
        assert 0 < sent < len(WHOLE)
        assert client.rest()[1] is End.RESET
        assert results == []
        serve_next = proxy.connect()
        assert exchange(serve_next, server, get(), WHOLE).status == 200


def test_killed_while_its_client_takes_no_more(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, _, session, _ = stalled(proxy, played)
        number = len(proxy.ended())
        session.end(Ended.KILLED)
        record = proxy.ended(number + 1)[-1]
        assert (record.code, record.status) == ("KD", 200)
        assert client.rest()[1] is End.RESET


def test_a_client_that_resets_amid_its_response(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client, _, session, before = stalled(proxy, played)
        sent = session.client.sent - before
        number = len(proxy.ended())
        client.reset()
        record = proxy.ended(number + 1)[-1]
        assert (record.code, record.status, record.bytes_out) == ("CD", 200, sent)
        assert proxy.closed() == {"CD": 1}


def test_the_record_of_a_plain_exchange_that_is_cut_off_is_that_of_any(played: PlayedBackend, clock: FakeClock) -> None:
    records = []
    for extra in (b"", get()[:10]):
        with EmbeddedHttp(backend(played, "name: b1"), clock=clock) as proxy:
            client, server = warm(proxy, played)
            results = watched(proxy)
            client.send(get("/slow") + extra)
            read_head(server)
            clock.advance(0.5)
            server.send(dated())
            client.reset()
            records.append(as_told(proxy.ended(2)[1])._replace(client=""))
            assert results == [LEFT_ALONE if extra else CUT_OFF]
    assert records[0] == records[1]
    assert records[0].code == "CD"
