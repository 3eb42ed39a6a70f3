"""What is told of a request or a session: who was chosen and why, over which connection, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gproxy.admin.stories import Wanted, stories_document
from gproxy.core.health import Administrative
from gproxy.core.settings import Mode
from gproxy.core.termination import Ended
from gproxy.errors import DialError, DialFailure
from gproxy.search import Search
from gproxy.stories import KEPT, Stories, Trace
from tests.support.clock import FakeClock
from tests.support.embedded import Embedded, EmbeddedHttp, backend
from tests.support.http_peer import (
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
from tests.support.loopback import Peer, PlayedBackend
from tests.support.poll import eventually

DATE = "Date: today"  # without one a response is never plain


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def other() -> Iterator[PlayedBackend]:
    with PlayedBackend() as played:
        yield played


def told(proxy: Embedded, count: int = 1, **wanted: Any) -> list[dict[str, Any]]:
    """The stories, the latest first, once there are so many."""
    document = eventually(
        lambda: (
            (d := stories_document(proxy.worker.traces(), Wanted(**wanted), 0, proxy.worker._clock()))
            and len(d["stories"]) >= count
            and d
        ),
        what=f"{count} stories",
    )
    return document["stories"]  # type: ignore[no-any-return]


def exchange(client: Peer, server: Peer, target: str = "/", *lines: str) -> None:
    client.send(get(target, *lines))
    read_request(server)
    server.send(ok(b"ok", DATE))
    read_response(client)


def warm(proxy: EmbeddedHttp, played: PlayedBackend) -> tuple[Peer, Peer]:
    """Both ends after one exchange."""
    client = proxy.connect()
    client.send(get())
    server = played.accept()
    read_request(server)
    server.send(ok(b"ok", DATE))
    read_response(client)
    eventually(lambda: idle(proxy) == 1)
    return client, server


def named(played: PlayedBackend | str, name: str, keys: str = "") -> str:
    return backend(played, f"name: {name}, {keys}")


# --- http -------------------------------------------------------------------------------------


def test_a_first_request(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(named(played, "b1"), clock=clock) as proxy:
        client = proxy.connect()
        client.send(get("/a?b", "X-Request-ID: mine"))
        server = played.accept()
        sent = read_head(server).size
        clock.advance(0.25)
        server.send(ok(b"hello", DATE))
        got = read_response(client)
        clock.advance(2.0)
        [story] = told(proxy)
    assert sent > story["bytes_in"]
    assert story | {"bytes_in": 0} == {
        "worker": 0, "mode": "http", "began": 2.25, "ended": 2.0, "client": story["client"], "listener": "web",
        "request_id": "mine", "method": "GET", "target": "/a?b", "version": "HTTP/1.1",
        "upstream": "app", "balance": "round_robin", "backend": "b1",
        "tries": [{
            "at": 0.0, "candidates": ["b1"], "excluded": [], "backend": "b1", "queued": False,
            "why": "the only candidate", "scores": [], "failure": None,
            "connection": {"kind": "fresh", "why": "none was idle", "uses": 1, "idle": None},
        }],
        "timers": {"read": 0.0, "wait": 0.0, "connect": 0.0, "response": 0.25, "total": 0.25},
        "status": 200, "told": None, "bytes_in": 0, "bytes_out": got.head.size + 5, "code": "--",
        "ending": "Both sides finished.",
    }  # fmt: skip


def test_a_plain_request_over_an_idle_connection(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(named(played, "b1"), clock=clock) as proxy:
        client, server = warm(proxy, played)
        clock.advance(3.0)
        client.send(get("/plain"))
        read_request(server)
        clock.advance(0.5)
        server.send(ok(b"ok", DATE))
        read_response(client)
        story = told(proxy, 2)[0]
    [first] = story["tries"]
    assert first["connection"] == {"kind": "idle", "why": "it was used last", "uses": 2, "idle": 3.0}
    assert (first["backend"], first["candidates"], first["why"]) == ("b1", ["b1"], "the only candidate")
    assert story["timers"] == {"read": 0.0, "wait": 0.0, "connect": 0.0, "response": 0.5, "total": 0.5}
    assert (story["method"], story["target"], story["status"], story["code"]) == ("GET", "/plain", 200, "--")
    assert story["client"].startswith("127.0.0.1:")


def test_plain_or_not_they_tell_the_same(played: PlayedBackend, clock: FakeClock) -> None:
    """What has come as another head the Exchange serves."""
    with EmbeddedHttp(named(played, "b1"), clock=clock) as proxy:
        client, server = warm(proxy, played)
        for _ in range(2):
            clock.advance(1.0)
            exchange(client, server, "/", "X-Request-ID: same")
        plain, other, _ = told(proxy, 3)
    assert (plain["ended"], other["ended"]) == (0.0, 1.0)
    assert plain["tries"][0]["connection"].pop("uses") == 3
    assert other["tries"][0]["connection"].pop("uses") == 2
    assert plain == other | {"began": 0.0, "ended": 0.0}


def test_a_pooled_connection_that_dies(played: PlayedBackend) -> None:
    """It is asked once more, on a fresh connection."""
    with EmbeddedHttp(named(played, "b1")) as proxy:
        client, server = warm(proxy, played)
        client.send(get())
        read_request(server)
        server.close()
        server = played.accept()
        read_request(server)
        server.send(ok(b"ok", DATE))
        read_response(client)
        story = told(proxy, 2)[0]
    first, second = story["tries"]
    assert first["connection"]["kind"] == "idle"
    assert first["failure"] == "its idle connection ended before a response, as idle ones may"
    assert second["connection"] == {
        "kind": "fresh", "why": "a pooled one had just ended, so a fresh one was asked for", "uses": 1, "idle": None,
    }  # fmt: skip
    assert (second["failure"], story["status"], story["code"]) == (None, 200, "--")


def test_a_fresh_connection_that_dies_leads_to_the_next_backend(played: PlayedBackend, other: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1"), named(other, "b2")) as proxy:
        client = proxy.connect()
        client.send(get())
        dying = played.accept()
        read_request(dying)
        dying.close()
        server = other.accept()
        read_request(server)
        server.send(ok())
        read_response(client)
        [story] = told(proxy)
    first, second = story["tries"]
    assert (first["backend"], first["failure"]) == ("b1", "it ended the connection before a response")
    assert (second["backend"], second["excluded"]) == ("b2", [{"backend": "b1", "reason": "tried already"}])
    assert story["backend"] == "b2"


def test_what_may_do_harm_is_not_sent_again(played: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1")) as proxy:
        client = proxy.connect()
        client.send(post(b"hi"))
        server = played.accept()
        read_request(server)
        server.close()
        assert read_response(client).status == 502
        [story] = told(proxy)
    [only] = story["tries"]
    assert only["failure"] == (
        "it ended the connection before a response; not asked again, since to repeat it might do harm"
    )
    assert (story["status"], story["code"]) == (502, "SH")
    assert story["told"] == "the backend ended the connection before its response"


def test_refused_dials(played: PlayedBackend) -> None:
    with PlayedBackend() as gone:
        address = gone.address
    with EmbeddedHttp(named(address, "b1"), named(played, "b2")) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_request(server)
        server.send(ok())
        read_response(client)
        [story] = told(proxy)
    first, second = story["tries"]
    assert (first["backend"], first["failure"]) == ("b1", f"{address}: Connection refused")
    assert first["connection"] is None
    assert (second["backend"], second["why"]) == ("b2", "the only candidate")


def test_nobody_can_serve() -> None:
    with EmbeddedHttp(named("127.0.0.1:1", "b1"), named("127.0.0.1:2", "b2")) as proxy:
        one, two = proxy.backends
        one.set_administrative(Administrative.DRAIN)
        two.eject(60)
        client = proxy.connect()
        client.send(get())
        assert read_response(client).status == 503
        [story] = told(proxy)
    [only] = story["tries"]
    assert (only["candidates"], only["backend"], only["queued"]) == ([], None, False)
    assert only["excluded"] == [
        {"backend": "b1", "reason": "draining"}, {"backend": "b2", "reason": "ejected after failures"},
    ]  # fmt: skip
    assert (story["status"], story["code"], story["backend"]) == (503, "SC", None)
    assert story["timers"]["wait"] is None


def test_a_wait_for_a_slot(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(named(played, "b1", "max_connections: 1"), clock=clock) as proxy:
        first, second = proxy.connect(), proxy.connect()
        first.send(get())
        server = played.accept()
        read_request(server)
        second.send(get("/second"))
        eventually(lambda: len(proxy.worker.upstreams["app"].queue) == 1)
        clock.advance(2.0)
        server.send(ok(b"ok", DATE))
        read_response(first)
        read_request(server)
        server.send(ok(b"ok", DATE))
        read_response(second)
        story = next(each for each in told(proxy, 2) if each["target"] == "/second")
    waited, served = story["tries"]
    assert (waited["queued"], waited["backend"]) == (True, None)
    assert waited["excluded"] == [{"backend": "b1", "reason": "at its connection limit"}]
    assert (served["at"], served["queued"], served["backend"]) == (2.0, False, "b1")
    assert served["connection"]["kind"] == "idle"
    assert story["timers"]["wait"] == 2.0


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ("idle_timeout: 5", "the idle one was past pool.idle_timeout or pool.max_age"),
        ("reuse: never", "pool.reuse is never"),
    ],
)
def test_why_a_connection_is_fresh(played: PlayedBackend, clock: FakeClock, pool: str, why: str) -> None:
    with EmbeddedHttp(named(played, "b1"), upstream=f"pool: {{{pool}}}", clock=clock) as proxy:
        for _ in range(2):
            client = proxy.connect()
            client.send(get())
            server = played.accept()
            read_request(server)
            server.send(ok(b"ok", DATE))
            read_response(client)
            clock.advance(6.0)
        story = told(proxy, 2)[0]
    assert story["tries"][0]["connection"] == {"kind": "fresh", "why": why, "uses": 1, "idle": None}


def test_an_idle_connection_that_the_backend_would_not_keep(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(named(played, "b1"), clock=clock) as proxy:
        client = proxy.connect()
        for _ in range(2):
            client.send(get())
            server = played.accept()
            read_request(server)
            server.send(ok(b"ok", DATE, "Keep-Alive: timeout=5"))
            read_response(client)
            clock.advance(4.5)
        story = told(proxy, 2)[0]
    assert story["tries"][0]["connection"]["why"] == (
        "the idle one had been idle for about as long as the backend is known to keep one"
    )


def test_a_connection_that_was_dialled_ahead(played: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1"), upstream="pool: {preconnect: 1}") as proxy:
        eventually(lambda: idle(proxy) == 1)
        server = played.accept()
        exchange(proxy.connect(), server)
        [story] = told(proxy)
    connection = story["tries"][0]["connection"]
    assert (connection["kind"], connection["uses"]) == ("ahead", 1)


def test_a_request_that_is_refused() -> None:
    with EmbeddedHttp(named("127.0.0.1:1", "b1")) as proxy:
        client = proxy.connect()
        client.send(b"GET / HTTP/9.1\r\n\r\n")
        read_response(client)
        [story] = told(proxy)
    assert (story["tries"], story["upstream"], story["backend"]) == ([], None, None)
    assert (story["code"], story["status"]) == ("PR", 505)
    assert story["told"]


@pytest.mark.parametrize("warmed", [False, True], ids=["any", "plain"])
def test_a_request_that_is_under_way(played: PlayedBackend, clock: FakeClock, warmed: bool) -> None:
    with EmbeddedHttp(named(played, "b1"), clock=clock) as proxy:
        if warmed:
            client, server = warm(proxy, played)
        else:
            client = proxy.connect()
        client.send(get("/slow"))
        server = server if warmed else played.accept()
        read_request(server)
        clock.advance(3.0)
        story = told(proxy, 1 + warmed)[-1 if warmed else 0]
        [story] = [each for each in told(proxy) if each["target"] == "/slow"]
    assert (story["ended"], story["code"], story["ending"], story["status"]) == (None, None, None, 0)
    assert (story["began"], story["backend"], story["timers"]["total"]) == (3.0, "b1", 3.0)
    assert story["request_id"]


def test_what_the_policy_went_by(played: PlayedBackend, other: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1"), named(other, "b2"), upstream="balance: least_connections") as proxy:
        first, second = proxy.connect(), proxy.connect()
        first.send(get())
        played.accept()
        second.send(get("/second"))
        server = other.accept()
        read_request(server)
        server.send(ok())
        read_response(second)
        story = next(each for each in told(proxy, 2) if each["target"] == "/second")
    [only] = story["tries"]
    assert (only["backend"], only["why"]) == ("b2", "the least load")
    assert only["scores"] == [{"backend": "b1", "score": 2.0}, {"backend": "b2", "score": 1.0}]


def test_stories_keep_no_socket(played: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1")) as proxy:
        warm(proxy, played)
        [trace] = proxy.worker.traces()
        assert isinstance(trace.course, Search)
        assert trace.course.connection is trace.course._client is None


# --- tcp --------------------------------------------------------------------------------------


def test_a_session(played: PlayedBackend, clock: FakeClock) -> None:
    def dial(endpoint: Any, timeout: float) -> Any:
        from gproxy.net.dial import dial as real

        if endpoint.sockaddr[1] == 1:
            raise DialError(DialFailure.TIMEOUT, f"{endpoint}: timed out")
        return real(endpoint, timeout)

    with Embedded(named("127.0.0.1:1", "b1"), named(played, "b2"), clock=clock, dial=dial) as proxy:
        client = proxy.connect()
        server = played.accept()
        client.send(b"ping")
        assert server.receive(4) == b"ping"
        clock.advance(5.0)
        [under_way] = told(proxy)
        client.finish()
        server.send(b"pong!")
        server.finish()
        assert client.receive(5) == b"pong!"
        [story] = eventually(lambda: (found := told(proxy)) and found[0]["code"] and found)
    assert (under_way["backend"], under_way["code"], under_way["ended"]) == ("b2", None, None)
    assert (under_way["bytes_in"], under_way["bytes_out"]) == (4, 0)
    assert (story["mode"], story["status"], story["method"], story["request_id"]) == ("tcp", None, None, None)
    assert (story["bytes_in"], story["bytes_out"], story["code"]) == (4, 5, "--")
    first, second = story["tries"]
    assert (first["backend"], first["failure"]) == ("b1", "127.0.0.1:1: timed out")
    assert (second["backend"], second["connection"]["why"]) == ("b2", "pool.reuse is never")
    assert story["timers"] == {"read": None, "wait": 0.0, "connect": 0.0, "response": None, "total": 5.0}


def test_a_session_that_nobody_can_serve(clock: FakeClock) -> None:
    with Embedded(named("127.0.0.1:1", "b1"), clock=clock) as proxy:
        proxy.backends[0].set_administrative(Administrative.MAINT)
        proxy.connect()
        [story] = told(proxy)
    assert (story["code"], story["backend"]) == ("SC", None)
    assert story["tries"][0]["excluded"] == [{"backend": "b1", "reason": "in maintenance"}]


# --- which ------------------------------------------------------------------------------------


def test_which_are_asked_for(played: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1")) as proxy:
        client, server = warm(proxy, played)
        for number in range(4):
            exchange(client, server, "/", f"X-Request-ID: id{number}")
        address = told(proxy, 5)[0]["client"]
        assert [each["request_id"] for each in told(proxy, last=2)] == ["id3", "id2"]
        assert [each["request_id"] for each in told(proxy, request_id="id1")] == ["id1"]
        assert told(proxy, 0, request_id="id") == []
        assert len(told(proxy, client=address)) == len(told(proxy, client="127.0.0.1")) == 5
        assert told(proxy, 0, client="127.0.0.2") == told(proxy, 0, failed=True) == []


def trace(number: int, code: Ended = Ended.NORMAL) -> Trace:
    return Trace(Mode.HTTP, None, "web", None, number, number, 0, 0, code)


def test_the_last_thousand_are_kept_and_as_many_that_went_wrong() -> None:
    """Those that went well, of which there are many, don't push the others out."""
    stories = Stories()
    for number in range(5):
        stories.keep(trace(number, Ended.NO_RESPONSE))
    for number in range(KEPT + 5):
        stories.keep(trace(number))
    well = [each for each in stories.traces if not each.went_wrong]
    assert KEPT == len(well) == 1000
    assert (well[0].began, well[-1].began) == (5, 1004)
    assert [each.began for each in stories.traces if each.went_wrong] == [0, 1, 2, 3, 4]


def test_a_plain_error_of_a_backends_went_wrong(played: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1")) as proxy:
        client, server = warm(proxy, played)
        for target in ("/first", "/second"):
            client.send(get(target))
            read_request(server)
            server.send(response("500 Internal Server Error", "Content-Length: 0", DATE))
            read_response(client)
        exchange(client, server)
        assert [each["target"] for each in told(proxy, 2, failed=True)] == ["/second", "/first"]
        assert len(told(proxy, 4)) == 4


def test_as_many_as_fit_a_message_are_told(clock: FakeClock) -> None:
    targets = [trace(number)._replace(target=b"/" + b"x" * 5000) for number in range(100)]
    found = stories_document(targets, Wanted(), 0, clock())
    assert 20 < len(found["stories"]) < 40
    assert found["left_off"] == 100 - len(found["stories"])
    assert len(found["stories"][0]["target"]) == 1000


def test_a_wait_is_seen_while_it_lasts(played: PlayedBackend, clock: FakeClock) -> None:
    with EmbeddedHttp(named(played, "b1", "max_connections: 1"), clock=clock) as proxy:
        first, second = proxy.connect(), proxy.connect()
        first.send(get("/first"))
        played.accept()
        gevent.sleep(0)
        second.send(get("/second"))
        eventually(lambda: len(proxy.worker.upstreams["app"].queue) == 1)
        story = next(each for each in told(proxy, 2) if each["target"] == "/second")
    assert [each["queued"] for each in story["tries"]] == [True]


def test_the_bytes_of_a_transfer_that_goes_on(played: PlayedBackend) -> None:
    with EmbeddedHttp(named(played, "b1")) as proxy:
        client = proxy.connect()
        head = request("POST", "/", "Content-Length: 10")
        client.send(head + b"12345")
        server = played.accept()
        read_head(server)
        assert server.receive(5) == b"12345"
        [story] = told(proxy)
        assert (story["bytes_in"], story["bytes_out"]) == (len(head) + 5, 0)
        client.send(b"67890")
        server.send(response("200 OK", "Content-Length: 10", body=b"12345"))
        got = read_head(client)
        assert client.receive(5) == b"12345"
        [story] = told(proxy)
        assert (story["bytes_in"], story["bytes_out"]) == (len(head) + 10, got.size + 5)
        assert (story["status"], story["code"]) == (200, None)


def test_the_last_choices_are_told_whatever_kind_of_story_they_are_in(played: PlayedBackend) -> None:
    """Of an Exchange, of a plain exchange, of one that was repeated, and of one that is under way."""
    with EmbeddedHttp(named(played, "b1")) as proxy:
        client, server = warm(proxy, played)
        exchange(client, server)
        client.send(get())
        read_request(server)
        server.close()
        server = played.accept()
        read_request(server)
        server.send(ok(b"ok", DATE))
        read_response(client)
        client.send(get())
        read_request(server)
        decisions = proxy.worker.decisions(10)
        assert [each.backend.name for each in decisions if each.backend is not None] == ["b1"] * 5
        assert [each.at for each in decisions] == sorted((each.at for each in decisions), reverse=True)
        assert decisions[0].at == max(trace.began for trace in proxy.worker.traces())
        assert proxy.worker.decisions(2) == decisions[:2]
