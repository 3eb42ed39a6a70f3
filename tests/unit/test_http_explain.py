"""X-Gproxy-Explain: how a backend was chosen, for clients of a listener that says it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gproxy.core.balance import RouteRequest
from gproxy.core.health import Administrative
from gproxy.http.explain import explain_line
from gproxy.router import Router
from gproxy.stories import Course
from tests.support.embedded import EmbeddedHttp, backend
from tests.support.http_peer import get, idle, nothing_left, ok, read_request, read_response, request, response
from tests.support.loopback import PlayedBackend
from tests.support.poll import eventually
from tests.support.upstreams import make_upstream

FIELD = "X-Gproxy-Explain"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def explaining(*backends: str, upstream: str = "") -> EmbeddedHttp:
    return EmbeddedHttp(*backends, listener="explain_header: true", upstream=upstream)


def test_nobody_is_told_by_default(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_request(server)
        server.send(ok())
        assert read_response(client).get(FIELD) is None


def test_each_response_tells(played: PlayedBackend) -> None:
    """Also those that would be plain."""
    with explaining(
        backend(played, "name: b1"), backend("127.0.0.1:1", "name: b2"), upstream="balance: random"
    ) as proxy:
        proxy.backends[1].set_administrative(Administrative.DRAIN)
        client = proxy.connect()
        told = []
        server = None
        for _ in range(3):
            client.send(get())
            server = server or played.accept()
            read_request(server)
            server.send(ok(b"ok", "Date: today"))
            told.append(read_response(client).get(FIELD))
            eventually(lambda: idle(proxy) == 1)
    miss, *hits = told
    assert miss == b"b1; policy=random; pool=miss; tries=1; excluded=b2:drain"
    assert hits == [b"b1; policy=random; pool=hit; tries=1; excluded=b2:drain"] * 2


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_heads_and_upgrades_tell_it_too(played: PlayedBackend, method: str) -> None:
    upgrade = ("Connection: upgrade", "Upgrade: x") if method == "GET" else ()
    with explaining(backend(played, "name: b1")) as proxy:
        client = proxy.connect()
        client.send(request(method, "/", *upgrade))
        server = played.accept()
        read_request(server)
        server.send(response("101 Switching Protocols", *upgrade) if upgrade else ok(b""))
        assert read_response(client, method).get(FIELD) == b"b1; policy=round_robin; pool=miss; tries=1"


def test_an_answer_of_ours_tells_why() -> None:
    with explaining(backend("127.0.0.1:1", "name: b1")) as proxy:
        proxy.backends[0].set_administrative(Administrative.MAINT)
        client = proxy.connect()
        client.send(get())
        got = read_response(client)
    assert (got.status, got.get(FIELD)) == (503, b"-; policy=round_robin; tries=0; excluded=b1:maint")


def test_a_refusal_has_nothing_to_tell() -> None:
    with explaining(backend("127.0.0.1:1", "name: b1")) as proxy:
        client = proxy.connect()
        client.send(b"nonsense\r\n\r\n")
        got = read_response(client)
    assert (got.status, got.get(FIELD)) == (400, None)


def test_a_second_try(played: PlayedBackend) -> None:
    with PlayedBackend() as gone:
        refusing = backend(gone.address, "name: b1")
    with explaining(refusing, backend(played, "name: b2"), upstream="pool: {reuse: never}") as proxy:
        client = proxy.connect()
        client.send(get())
        server = played.accept()
        read_request(server)
        server.send(ok())
        assert read_response(client).get(FIELD) == b"b2; policy=round_robin; pool=off; tries=2; excluded=b1:tried"


def test_names_say_nothing_that_the_field_would_obey() -> None:
    upstream = make_upstream("", "")
    one, two = upstream.backends
    one.name, two.name = "a; b=c, é\r\nX: y", "unix:/run/x.sock"
    two.set_administrative(Administrative.DRAIN)
    course = Course(upstream)
    course.choice = Router().route(upstream, RouteRequest("192.0.2.1", "web"))
    line = b"X-Gproxy-Explain: a__b_c_____X:_y; policy=round_robin; tries=1; excluded=unix:/run/x.sock:drain\r\n"
    assert explain_line(course) == line


def test_of_many_backends_some_are_named() -> None:
    upstream = make_upstream(*[""] * 100)
    for each in upstream.backends[1:]:
        each.set_administrative(Administrative.DRAIN)
    course = Course(upstream)
    course.choice = Router().route(upstream, RouteRequest("192.0.2.1", "web"))
    line = explain_line(course)
    assert line.endswith(b",b20:drain,b21:drain,+79\r\n")
    assert len(line) < 400
