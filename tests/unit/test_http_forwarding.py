"""What an http listener changes of a message, and whom it sends it to: cookies, keys, routes, rules, fields."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy.core.health import Administrative
from tests.support.embedded import EmbeddedHttp, backend
from tests.support.http_peer import (
    Head,
    Message,
    get,
    nothing_left,
    ok,
    post,
    read_head,
    read_request,
    read_response,
)
from tests.support.loopback import Peer, PlayedBackend
from tests.support.poll import eventually


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


class Several:
    """An upstream of two or three backends, and for each request who got it."""

    def __init__(self, proxy: EmbeddedHttp, playeds: list[PlayedBackend]):
        self.proxy = proxy
        self._playeds = playeds
        self._servers: dict[int, Peer] = {}
        self._client = proxy.connect()

    def ask(self, what: bytes) -> tuple[int, Message]:
        """The number of the backend that was asked, and the response."""
        lent, dialled = self._lent(), self._dialled()
        self._client.send(what)
        eventually(lambda: self._lent() != lent)
        (number,) = (n for n, now in enumerate(self._lent()) if now != lent[n])
        if self._dialled() != dialled:
            self._servers[number] = self._playeds[number].accept()
        server = self._servers[number]
        read_request(server)
        server.send(ok())
        return number, read_response(self._client)

    def _lent(self) -> list[int]:
        """How often each backend has lent a connection."""
        return [b.stats.connects + b.stats.reuses for b in self.proxy.backends]

    def _dialled(self) -> int:
        return sum(b.stats.connects for b in self.proxy.backends)


@contextlib.contextmanager
def several(upstream: str, count: int = 2) -> Iterator[Several]:
    with contextlib.ExitStack() as stack:
        playeds = [stack.enter_context(PlayedBackend()) for _ in range(count)]
        entries = [backend(played, f"name: b{n}") for n, played in enumerate(playeds)]
        proxy = stack.enter_context(EmbeddedHttp(*entries, upstream=upstream))
        yield Several(proxy, playeds)


def forwarded(proxy: EmbeddedHttp, played: PlayedBackend, what: bytes) -> Head:
    """A request's head as the backend gets it."""
    client = proxy.connect()
    client.send(what)
    server = played.accept()
    head = read_request(server).head
    server.send(ok())
    read_response(client)
    return head


def returned(proxy: EmbeddedHttp, played: PlayedBackend, answer: bytes) -> Head:
    """A response's head as the client gets it."""
    client = proxy.connect()
    client.send(get())
    server = played.accept()
    read_head(server)
    server.send(answer)
    return read_response(client).head


# --- sticky sessions ---------------------------------------------------------------------------


def cookie(got: Message) -> str:
    """The token that a response sets."""
    line = got.get("Set-Cookie")
    assert line is not None
    found = re.fullmatch(rb"app=([0-9a-f]{16}); Path=/; HttpOnly; SameSite=Lax", line)
    assert found, line
    return found[1].decode()


def test_a_client_without_the_cookie_gets_it() -> None:
    with several("sticky: app") as two:
        _, got = two.ask(get())
        assert cookie(got)


def test_each_backend_has_a_cookie_of_its_own() -> None:
    with several("sticky: app") as two:
        first, second = two.ask(get()), two.ask(get())
        assert first[0] != second[0]
        assert cookie(first[1]) != cookie(second[1])


def test_a_client_with_the_cookie_stays_and_gets_no_other() -> None:
    with several("sticky: app") as two:
        number, got = two.ask(get())
        token = cookie(got)
        for _ in range(3):
            same, got = two.ask(get("/", f"Cookie: other=1; app={token}"))
            assert same == number
            assert got.get("Set-Cookie") is None


def test_a_client_whose_backend_is_out_gets_another_cookie() -> None:
    with several("sticky: app") as two:
        number, got = two.ask(get())
        token = cookie(got)
        two.proxy.backends[number].set_administrative(Administrative.MAINT)
        other, got = two.ask(get("/", f"Cookie: app={token}"))
        assert other != number
        assert cookie(got) != token


@pytest.mark.parametrize("token", ["b0", "app/b0", "0123456789abcdef", "", "x" * 1000, '"'])
def test_a_forged_cookie_is_as_good_as_none(token: str) -> None:
    with several("sticky: app") as two:
        asked = [two.ask(get("/", f"Cookie: app={token}")) for _ in range(2)]
        assert {number for number, _ in asked} == {0, 1}
        assert all(cookie(got) for _, got in asked)


def test_a_cookie_as_the_operator_wants_it(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="sticky: {cookie: stay, max_age: 1h, secure: true}") as proxy:
        line = returned(proxy, played, ok()).get("Set-Cookie")
        assert line is not None
        assert line.startswith(b"stay=")
        assert line.endswith(b"; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure")


def test_the_backend_s_own_cookies_stay(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="sticky: app") as proxy:
        lines = returned(proxy, played, ok(b"ok", "Set-Cookie: a=1", "Date: today")).all("Set-Cookie")
        assert lines[0] == b"a=1"
        assert lines[1].startswith(b"app=")


# --- keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "requests"),
    [
        ("header:X-User", [get("/", f"x-user: {n}") for n in range(8)]),
        ("cookie:user", [get("/", f"Cookie: a=b; user={n}") for n in range(8)]),
        ("path", [get(f"/{n}") for n in range(8)]),
    ],
    ids=["header", "cookie", "path"],
)
def test_the_same_key_has_the_same_backend(source: str, requests: list[bytes]) -> None:
    with several(f'balance: {{hash: "{source}"}}') as two:
        once = [two.ask(what)[0] for what in requests]
        again = [two.ask(what)[0] for what in reversed(requests)]
        assert once == again[::-1]
        assert set(once) == {0, 1}


def test_the_path_s_query_is_none_of_the_key() -> None:
    with several("balance: {hash: path}") as two:
        assert len({two.ask(get(f"/same?{n}"))[0] for n in range(8)}) == 1


@pytest.mark.parametrize("source", ["header:X-User", "cookie:user"])
def test_requests_without_the_key_go_by_turns(source: str) -> None:
    with several(f'balance: {{hash: "{source}"}}') as two:
        assert [two.ask(get("/", "Cookie: other=1"))[0] for _ in range(4)] in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_a_key_whose_backend_is_out_goes_elsewhere_and_comes_back() -> None:
    with several('balance: {hash: "header:X-User"}') as two:
        what = get("/", "X-User: me")
        number, _ = two.ask(what)
        at_home = two.proxy.backends[number]
        at_home.set_administrative(Administrative.DRAIN)
        assert two.ask(what)[0] != number
        at_home.set_administrative(Administrative.READY)
        assert two.ask(what)[0] == number


# --- rules -------------------------------------------------------------------------------------------


def test_fields_set_in_requests(played: PlayedBackend) -> None:
    rules = "request_headers: {set: {X-Env: prod, X-Real: ours, Host: inside.example}}"
    with EmbeddedHttp(backend(played), listener=rules) as proxy:
        head = forwarded(proxy, played, get("/", "x-real: theirs", "X_Real: theirs too"))
        assert (head.get("X-Env"), head.get("X-Real"), head.get("X_Real")) == (b"prod", b"ours", None)
        assert head.get("Host") == b"inside.example"


def test_fields_removed_from_requests(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="request_headers: {remove: [Cookie, X-Secret]}") as proxy:
        head = forwarded(proxy, played, get("/", "cookie: a=1", "X-Secret: 1", "X_Secret: 2", "X-Other: 3"))
        assert [head.get(name) for name in ("Cookie", "X-Secret", "X_Secret", "X-Other")] == [None, None, None, b"3"]


def test_a_rule_about_a_forwarding_field_is_the_last_word(played: PlayedBackend) -> None:
    rules = "request_headers: {set: {X-Forwarded-Proto: https}, remove: [X-Forwarded-Host]}"
    with EmbeddedHttp(backend(played), listener=rules) as proxy:
        head = forwarded(proxy, played, get())
        assert (head.get("X-Forwarded-Proto"), head.get("X-Forwarded-Host")) == (b"https", None)
        assert head.get("X-Forwarded-For") == b"127.0.0.1"


def test_fields_set_in_responses(played: PlayedBackend) -> None:
    rules = "response_headers: {set: {Server: gproxy, X-Frame-Options: DENY}}"
    with EmbeddedHttp(backend(played), listener=rules) as proxy:
        head = returned(proxy, played, ok(b"ok", "server: theirs"))
        assert (head.get("Server"), head.get("X-Frame-Options")) == (b"gproxy", b"DENY")


def test_fields_removed_from_responses(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="response_headers: {remove: [X-Powered-By]}") as proxy:
        head = returned(proxy, played, ok(b"ok", "x-powered-by: theirs", "X-Other: 1"))
        assert (head.get("X-Powered-By"), head.get("X-Other")) == (None, b"1")


# --- routes ------------------------------------------------------------------------------------------

ROUTES = (
    "{host: '*.img.example', upstream: images}, {host: api.example, path: /v1, upstream: old}, "
    "{host: api.example, upstream: api}, {path: /api/, upstream: api}"
)


@pytest.mark.parametrize(
    ("target", "host", "upstream"),
    [
        ("/", "app.example", "app"),
        ("/", "a.img.example", "images"),
        ("/", "a.b.IMG.example:8080", "images"),
        ("/", "img.example", "app"),
        ("/v1", "api.example", "old"),
        ("/v1/x?y", "API.example.", "old"),
        ("/v10", "api.example", "api"),
        ("/v2", "api.example", "api"),
        ("/v1", "app.example", "app"),
        ("/api", "app.example", "api"),
        ("/api/x", "app.example", "api"),
        ("/apix", "app.example", "app"),
        ("/x/../api/y", "app.example", "api"),
        ("//%61pi/y", "app.example", "api"),
        ("/v2/../v1/z", "api.example", "old"),
        ("http://api.example/v1", "app.example", "old"),
    ],
)
def test_routes_by_host_and_path(target: str, host: str, upstream: str) -> None:
    names = ["app", "images", "old", "api"]
    with contextlib.ExitStack() as stack:
        playeds = {name: stack.enter_context(PlayedBackend()) for name in names}
        further = "\n  ".join(
            f"{name}: {{health_check: {{type: none}}, backends: [{backend(playeds[name])}]}}" for name in names[1:]
        )
        listener = f"routes: [{ROUTES}]"
        proxy = stack.enter_context(EmbeddedHttp(backend(playeds["app"]), listener=listener, further=further))
        head = forwarded(proxy, playeds[upstream], get(target, f"Host: {host}"))
        assert head.target == target.removeprefix("http://api.example").encode()
        (record,) = proxy.ended()
        assert (record.upstream, record.status) == (upstream, 200)


def test_one_client_s_requests_may_go_to_several_upstreams(played: PlayedBackend) -> None:
    with PlayedBackend() as other:
        api = f"api: {{health_check: {{type: none}}, backends: [{backend(other)}]}}"
        with EmbeddedHttp(backend(played), listener="routes: [{path: /api, upstream: api}]", further=api) as proxy:
            client = proxy.connect()
            for target, whose in (("/", played), ("/api", other)):
                client.send(get(target))
                server = whose.accept()
                assert read_head(server).target == target.encode()
                server.send(ok())
                assert read_response(client).status == 200
            assert [record.upstream for record in proxy.ended(2)] == ["app", "api"]


def test_a_path_above_the_root_is_refused_where_there_are_routes(played: PlayedBackend) -> None:
    api = f"api: {{health_check: {{type: none}}, backends: [{backend(played)}]}}"
    listener = "routes: [{path: /api, upstream: api}]"
    with EmbeddedHttp(backend("127.0.0.1:1"), listener=listener, further=api) as proxy:
        client = proxy.connect()
        client.send(get("/../api"))
        assert read_response(client).status == 400
        assert proxy.codes() == ["PR"]


# --- who the client is ---------------------------------------------------------------------------------

TRUSTED = "trusted_proxies: [127.0.0.0/8]"
CAME = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: outside.example",
        "X-Forwarded-Port: 443", "Forwarded: for=192.0.2.9")  # fmt: skip


def test_a_client_that_is_not_trusted_is_not_believed(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="trusted_proxies: [192.0.2.0/24]") as proxy:
        head = forwarded(proxy, played, get("/", *CAME))
        assert head.get("X-Forwarded-For") == b"127.0.0.1"
        assert head.get("X-Forwarded-Proto") == b"http"
        assert head.get("X-Forwarded-Host") == b"app.example"
        assert (head.get("X-Forwarded-Port"), head.get("Forwarded")) == (None, None)


@pytest.mark.parametrize("rules", ["", ", request_headers: {remove: [X-Forwarded-For]}"])
def test_long_lines_of_a_trusted_proxy_are_not_remembered(played: PlayedBackend, rules: str) -> None:
    with EmbeddedHttp(backend(played), listener=TRUSTED + rules) as proxy:
        forwarded(proxy, played, get("/", "X-Forwarded-For: " + "192.0.2.1," * 300))
        assert not proxy.service._lines


def test_a_trusted_proxy_is_believed_and_added(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener=TRUSTED) as proxy:
        head = forwarded(proxy, played, get("/", *CAME))
        assert head.get("X-Forwarded-For") == b"192.0.2.1, 127.0.0.1"
        assert head.get("X-Forwarded-Proto") == b"https"
        assert head.get("X-Forwarded-Host") == b"outside.example"
        assert head.get("X-Forwarded-Port") == b"443"
        assert head.get("Forwarded") is None


def test_another_spelling_of_a_forwarding_field_is_not_believed(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        head = forwarded(proxy, played, get("/", "X_Forwarded_For: 192.0.2.1", "x-forwarded_proto: https"))
        assert head.get("X-Forwarded-For") == b"127.0.0.1"
        assert (head.get("X_Forwarded_For"), head.get("x-forwarded_proto")) == (None, None)


def test_forwarded_of_a_client_that_is_not_trusted(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="forwarded: forwarded") as proxy:
        head = forwarded(proxy, played, get("/", *CAME))
        port = proxy.worker.address("web")[1]
        assert head.get("Forwarded") == b'for=127.0.0.1;host=app.example;proto=http;by="127.0.0.1:%d"' % port
        assert head.get("X-Forwarded-For") is None


def test_forwarded_of_a_trusted_proxy(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener=f"forwarded: forwarded, {TRUSTED}") as proxy:
        value = forwarded(proxy, played, get("/", *CAME)).get("Forwarded")
        assert value is not None
        assert value.startswith(b"for=192.0.2.9, for=127.0.0.1;")


def test_forwarding_fields_pass_through_where_they_are_off(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), listener="forwarded: off") as proxy:
        head = forwarded(proxy, played, get("/", *CAME))
        assert head.get("X-Forwarded-For") == b"192.0.2.1"
        assert head.get("Forwarded") == b"for=192.0.2.9"


def test_a_client_of_a_unix_socket_has_no_address(played: PlayedBackend, tmp_path: Path) -> None:
    with EmbeddedHttp(backend(played), bind=f"unix:{tmp_path}/web.sock") as proxy:
        head = forwarded(proxy, played, get())
        assert (head.get("X-Forwarded-For"), head.get("X-Forwarded-Proto")) == (None, b"http")


# --- request ids -------------------------------------------------------------------------------------------


def test_a_request_without_an_id_gets_one_that_is_logged(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        request_id = forwarded(proxy, played, get()).get("X-Request-ID")
        assert request_id is not None
        assert re.fullmatch(rb"[0-9a-f]{24}", request_id)
        assert proxy.ended()[0].request_id == request_id


def test_each_request_has_an_id_of_its_own(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="pool: {reuse: never}") as proxy:
        ids = {forwarded(proxy, played, get()).get("X-Request-ID") for _ in range(5)}
        assert len(ids) == 5


def test_the_client_s_id_is_passed_on(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        assert forwarded(proxy, played, get("/", "x-request-id: abc-123")).get("X-Request-ID") == b"abc-123"
        assert proxy.ended()[0].request_id == b"abc-123"


@pytest.mark.parametrize(
    "lines",
    [("X-Request-ID: ",), ("X-Request-ID: two words",), ("X-Request-ID: " + "x" * 129,),
     ("X-Request-ID: one", "X-Request-ID: two")],
    ids=["empty", "a space", "too long", "twice"],
)  # fmt: skip
def test_an_id_that_is_no_good_is_replaced(played: PlayedBackend, lines: tuple[str, ...]) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        request_id = forwarded(proxy, played, get("/", *lines)).get("X-Request-ID")
        assert request_id is not None
        assert re.fullmatch(rb"[0-9a-f]{24}", request_id)


# --- hop by hop ----------------------------------------------------------------------------------------------


def test_via_names_the_version_that_was_received(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played), upstream="pool: {reuse: never}") as proxy:
        assert forwarded(proxy, played, get()).get("Via") == b"1.1 gproxy"
        assert forwarded(proxy, played, get(minor=0)).get("Via") == b"1.0 gproxy"


def test_via_is_added_behind_those_that_came(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        assert forwarded(proxy, played, get("/", "Via: 1.0 first")).all("Via") == [b"1.0 first", b"1.1 gproxy"]


HOPS = ("Connection: keep-alive, X-Hop", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers",
        "Upgrade: h2c", "HTTP2-Settings: x", "Proxy-Authenticate: Basic", "X-Hop: 1", "X-End: 2")  # fmt: skip
ENDS_HERE = [line.partition(":")[0] for line in HOPS[:-1]]


def test_fields_of_one_hop_are_not_sent_to_the_backend(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        head = forwarded(proxy, played, get("/", *HOPS))
        assert [head.get(name) for name in ENDS_HERE] == [None] * len(ENDS_HERE)
        assert head.get("X-End") == b"2"


def test_fields_of_one_hop_are_not_sent_to_the_client(played: PlayedBackend) -> None:
    with EmbeddedHttp(backend(played)) as proxy:
        head = returned(proxy, played, ok(b"ok", *HOPS))
        assert [head.get(name) for name in ENDS_HERE] == [None] * len(ENDS_HERE)
        assert head.get("X-End") == b"2"


def test_a_client_can_t_name_away_what_others_rely_on(played: PlayedBackend) -> None:
    lines = ("Connection: Host, Content-Length, Cookie, X-Forwarded-For, X-Request-ID, Via", "Cookie: a=1",
             "X-Request-ID: mine", "Via: 1.0 first")  # fmt: skip
    with EmbeddedHttp(backend(played)) as proxy:
        head = forwarded(proxy, played, post(b"body", "/", *lines))
        assert (head.get("Host"), head.get("Content-Length"), head.get("Cookie")) == (b"app.example", b"4", b"a=1")
        assert (head.get("X-Forwarded-For"), head.get("X-Request-ID")) == (b"127.0.0.1", b"mine")
        assert head.all("Via") == [b"1.0 first", b"1.1 gproxy"]


def test_fields_keep_their_order_and_their_spelling(played: PlayedBackend) -> None:
    lines = ("x-ONE: 1", "Accept: a", "X-Two:2", "accept: b", "X-One: 3")
    with EmbeddedHttp(backend(played)) as proxy:
        head = forwarded(proxy, played, get("/", *lines))
        names = {b"x-one", b"accept", b"x-two"}
        assert [line for line in head.lines if line[0].lower() in names] == [
            (b"x-ONE", b"1"), (b"Accept", b"a"), (b"X-Two", b"2"), (b"accept", b"b"), (b"X-One", b"3"),
        ]  # fmt: skip
