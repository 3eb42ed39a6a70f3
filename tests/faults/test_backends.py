"""Backends that die, stand still, vanish, reset, lie and dawdle: rows of docs/reliability.md."""

import contextlib
import threading
import time

import pytest

from tests.support.ends import TIMEOUT, black_hole, read
from tests.support.faulty_client import ask, seen
from tests.support.http_origin import HttpOrigin, Lie, Notes, RecordingOrigin, respond
from tests.support.http_wire import Wire, read_request_head, read_response
from tests.support.origin import Origin
from tests.support.poll import eventually

CHECKED = "health_check: {type: http, path: /, interval: 200ms, fast_interval: 100ms, timeout: 200ms, rise: 1, fall: 1}"
UNCHECKED = "health_check: {type: none}"
B1, B2 = '{name: b1, address: "${B1}"}', '{name: b2, address: "${B2}"}'


def upstream(*backends, keys=UNCHECKED):
    return f"app: {{{keys}, backends: [{', '.join(backends)}]}}"


def lie(origin, *arguments):
    """Have an origin answer everything so, until `honest` is called."""
    origin.notes.lies.update({b"/": Lie(*arguments)})


def honest(origin):
    origin.notes.lies.clear()


@contextlib.contextmanager
def liars(*names):
    """Origins that each say what they are told to."""
    with contextlib.ExitStack() as stack:
        origins = []
        for name in names:
            notes = Notes()
            origins.append(stack.enter_context(RecordingOrigin(name, notes)))
            origins[-1].notes = notes
        yield origins


@pytest.mark.fault("a backend is killed (SIGKILL)")
def test_killed(faulty, reliability_row):
    with Origin("http", "b1") as b1, Origin("http", "b2") as b2:
        environ = {"B1": b1.address, "B2": b2.address}
        with faulty(upstream(B1, B2, keys=CHECKED), environ) as (proxy, bystander):
            assert {ask(proxy).body for _ in range(4)} == {b"b1", b"b2"}
            b1.kill()
            answers = [ask(proxy) for _ in range(20)]
            assert {(each.status, each.body) for each in answers} == {(200, b"b2")}
            proxy.wait_for_log("backend app/b1 is down")
            posts = [ask(proxy, method=b"POST", body=b"x") for _ in range(10)]
            assert {each.status for each in posts} == {200}
            b1.start()
            eventually(lambda: ask(proxy).body == b"b1", TIMEOUT, "b1 serves again")
    reliability_row(
        sees="GET: 200 of another backend; POST: the same where the request had not been sent",
        took=max(each.took for each in answers),
        others=bystander.verdict(),
        heals="a check takes it down, and another one up again once it answers",
    )


@pytest.mark.fault("a backend is killed before its response")
def test_killed_before_its_response(faulty, reliability_row):
    with liars("b1", "b2") as (b1, b2):
        environ = {"B1": b1.address, "B2": b2.address}
        with faulty(upstream(B1, B2), environ) as (proxy, bystander):
            lie(b1, b"", "reset")
            gets = [ask(proxy) for _ in range(3)]  # so few that the budget suffices for all to be tried again
            assert {each.status for each in gets} == {200}
            posts = [ask(proxy, method=b"POST", body=b"x") for _ in range(4)]
            assert {each.status for each in posts} == {200, 502}
            honest(b1)
            assert {ask(proxy, method=b"POST", body=b"x").status for _ in range(4)} == {200}
    reliability_row(
        sees="GET: 200 of another backend, within the budget of retries; POST: 502, for it may have been executed",
        took=max(each.took for each in gets + posts),
        others=bystander.verdict(),
        heals="at once: the connection is gone, and the next request makes another",
    )


@pytest.mark.fault("a backend stands still (SIGSTOP)")
def test_stopped(faulty, reliability_row):
    keys = f"response_timeout: 500ms, {CHECKED}"
    with Origin("http", "b1") as b1, Origin("http", "b2") as b2:
        environ = {"B1": b1.address, "B2": b2.address}
        with faulty(upstream(B1, B2, keys=keys), environ) as (proxy, bystander):
            assert {ask(proxy).body for _ in range(4)} == {b"b1", b"b2"}
            b1.freeze()
            answers = [ask(proxy) for _ in range(4)]
            assert {each.status for each in answers} <= {200, 504}
            proxy.wait_for_log("backend app/b1 is down")
            assert {ask(proxy).body for _ in range(4)} == {b"b2"}
            b1.thaw()
            eventually(lambda: ask(proxy).body == b"b1", TIMEOUT, "b1 serves again")
    late = [each for each in answers if each.status == 504]
    assert late
    reliability_row(
        sees="504 until a check has failed, then 200 of another backend",
        took=max(each.took for each in late),
        bound="`response_timeout` 0.5 s",
        others=bystander.verdict(),
        heals="an http check takes it down, and up again once it goes on; a check of tcp would not see it",
    )


@pytest.mark.fault("a backend is black-holed: a dial is never answered")
def test_black_holed(faulty, reliability_row):
    keys = f"backend_connect_timeout: 300ms, passive_health: {{connect_failures: 2, eject_for: 500ms}}, {UNCHECKED}"
    with liars("b2") as (b2,), black_hole() as hole:
        environ = {"B1": hole, "B2": b2.address}
        with faulty(upstream(B1, B2, keys=keys), environ) as (proxy, bystander):
            answers = [ask(proxy, method=method, body=b"x") for method in (b"POST", b"PUT") * 3]
            assert {each.status for each in answers} == {200}
            proxy.wait_for_log("backend app/b1 ejected for")
    reliability_row(
        sees="200 of another backend, of POST too",
        took=max(each.took for each in answers),
        bound="`backend_connect_timeout` 0.3 s",
        others=bystander.verdict(),
        heals="`connect_failures` dials eject it, so that no more clients wait; it is tried again after `eject_for`",
    )


@pytest.mark.fault("all backends of an upstream refuse")
def test_all_refuse(faulty, reliability_row):
    with liars("b1") as (b1,), faulty(upstream(B1), {"B1": b1.address}) as (proxy, bystander):
        b1.kill()
        answers = [ask(proxy, method=method) for method in (b"GET", b"POST")]
        assert {each.status for each in answers} == {503}
        b1.revive()
        eventually(lambda: ask(proxy).status == 200, TIMEOUT, "b1 serves again")
    reliability_row(
        sees="503 with `Retry-After`",
        took=max(each.took for each in answers),
        others=bystander.verdict(),
        heals="with the first dial that succeeds, or the first good check",
    )


@pytest.mark.fault("a backend closes connections while they are idle")
def test_closes_idle_connections(faulty, reliability_row):
    with liars("b1") as (b1,), faulty(upstream(B1), {"B1": b1.address}) as (proxy, bystander):
        lie(b1, respond(b"GET", b"mine"), "close")  # without announcing it
        answers = [ask(proxy, method=method) for method in (b"GET", b"PUT") * 10]
        assert {(each.status, each.body) for each in answers} == {(200, b"mine")}
        assert b1.connections >= 20
    reliability_row(
        sees="200; a POST that meets the very moment: 502",
        took=max(each.took for each in answers),
        others=bystander.verdict(),
        heals="the FIN takes the connection out of the pool; gproxy learns how long the backend keeps them",
    )


@pytest.mark.fault("a backend answers garbage")
def test_garbage(faulty, reliability_row):
    with liars("b1") as (b1,), faulty(upstream(B1), {"B1": b1.address}) as (proxy, bystander):
        answers = []
        for garbage in (b"\x16\x03\x01\x02\x00", b"220 smtp ready\r\n\r\n", b"HTTP/1.1 200 OK\nX: y\n\n", bytes(2000)):
            lie(b1, garbage + b"\r\n\r\n")
            answers.append(ask(proxy))
        assert {each.status for each in answers} == {502}
        honest(b1)
        assert ask(proxy).status == 200
    reliability_row(
        sees="502",
        took=max(each.took for each in answers),
        others=bystander.verdict(),
        heals="the connection is closed, never used again",
    )


@pytest.mark.fault("a backend sends less than it promised")
def test_less_than_promised(faulty, reliability_row):
    with liars("b1") as (b1,), faulty(upstream(B1), {"B1": b1.address}) as (proxy, bystander):
        answers = []
        for raw in (b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"):
            lie(b1, b"HTTP/1.1 200 OK\r\n" + raw, "close")
            answers.append(ask(proxy))
        assert {(each.status, each.whole, each.body) for each in answers} == {(200, False, b"half")}
        honest(b1)
        assert ask(proxy).status == 200
    reliability_row(
        sees=f"{answers[0]}, so that it takes no part for the whole",
        took=max(each.took for each in answers),
        others=bystander.verdict(),
        heals="at once: the next request makes another connection",
    )


@pytest.mark.fault("a backend sends more than it promised")
def test_more_than_promised(faulty, reliability_row):
    with liars("b1") as (b1,), faulty(upstream(B1), {"B1": b1.address}) as (proxy, bystander):
        surplus = respond(b"GET", b"for nobody")
        lie(b1, respond(b"GET", b"mine") + surplus)
        answers = [ask(proxy) for _ in range(10)]
        assert {(each.status, each.whole, each.body) for each in answers} == {(200, True, b"mine")}
        assert b1.connections == 10
    reliability_row(
        sees="200 with what was promised; nobody is given the rest",
        took=max(each.took for each in answers),
        others=bystander.verdict(),
        heals="the connection is closed and counts in `pool_dirty`",
    )


class Dawdler(HttpOrigin):
    """Answers byte by byte: the head at `/head`, the body at any other target; at `/stall` it never ends it."""

    PAUSE = 0.02  # seconds
    BODY = b"slowly but surely"

    def converse(self, connection):
        wire = Wire(connection)
        while head := read_request_head(wire):
            raw = respond(head.method, self.BODY)
            at = 0 if head.target == b"/head" else raw.index(b"\r\n\r\n") + 4
            connection.sendall(raw[:at])
            for number in range(at, len(raw) - (head.target == b"/stall")):
                connection.sendall(raw[number : number + 1])
                time.sleep(self.PAUSE)


@pytest.mark.fault("a backend answers byte by byte")
def test_byte_by_byte(faulty, reliability_row):
    keys = f"response_timeout: 500ms, stall_timeout: 500ms, {UNCHECKED}"
    with Dawdler("b1") as b1, faulty(upstream(B1, keys=keys), {"B1": b1.address}) as (proxy, bystander):
        slow_body, slow_head = ask(proxy), ask(proxy, target=b"/head")
        assert (slow_body.status, slow_body.body) == (200, Dawdler.BODY)
        assert slow_head.status == 504
        assert ask(proxy).status == 200
    reliability_row(
        sees="a slow head: 504; a slow body: each byte when it comes",
        took=slow_head.took,
        bound="`response_timeout` 0.5 s; a body may last as long as it moves",
        others=bystander.verdict(),
        heals="the late connection is closed",
    )


@pytest.mark.fault("a backend stops in the middle of a body")
def test_stops_amid_a_body(faulty, reliability_row):
    keys = f"stall_timeout: 500ms, {UNCHECKED}"
    with Dawdler("b1") as b1, faulty(upstream(B1, keys=keys), {"B1": b1.address}) as (proxy, bystander):
        answer = ask(proxy, target=b"/stall")
        assert (answer.status, answer.whole) == (200, False)
        assert ask(proxy).status == 200
    reliability_row(
        sees=str(answer),
        took=answer.took,
        bound="`stall_timeout` 0.5 s after the last byte",
        others=bystander.verdict(),
        heals="at once: the next request makes another connection",
    )


def send_on(client, size):
    """As much of a body as is taken."""
    with contextlib.suppress(OSError):
        client.sendall(bytes(size))


@pytest.mark.fault("a backend takes no more of an upload")
def test_takes_no_upload(faulty, reliability_row):
    keys = f"stall_timeout: 500ms, {UNCHECKED}"
    with Origin("hold", "b1") as b1, faulty(upstream(B1, keys=keys), {"B1": b1.address}) as (proxy, bystander):
        with proxy.connect("web", TIMEOUT) as client:
            size = 64 << 20
            client.sendall(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % size)
            began = time.monotonic()
            # All the time: whoever pauses would be the one who is late.
            sender = threading.Thread(target=send_on, args=(client, size), daemon=True)
            sender.start()
            answer = seen(read_response(Wire(client)), began)
        sender.join(TIMEOUT)
        assert answer.status == 504
    reliability_row(
        sees="504",
        took=answer.took,
        bound="`stall_timeout` 0.5 s",
        others=bystander.verdict(),
        heals="both connections are closed",
    )


@pytest.mark.fault("a tcp backend is killed amid a session")
def test_killed_amid_a_session(faulty, reliability_row):
    listener = '  - {name: raw, bind: "127.0.0.1:0", upstream: raw}\n'
    upstreams = f"raw: {{{UNCHECKED}, backends: [{B1}]}}\napp: {{{UNCHECKED}, backends: [{B1}]}}"
    with Origin("echo", "b1") as b1, faulty(upstreams, {"B1": b1.address}, listeners=listener) as (proxy, bystander):
        with proxy.connect("raw") as client:
            client.sendall(b"word")
            assert read(client, 4) == b"word"
            began = time.monotonic()
            b1.kill()
            assert ends(client)
            took = time.monotonic() - began
        b1.start()
        with proxy.connect("raw") as client:
            client.sendall(b"word")
            assert read(client, 4) == b"word"
    reliability_row(
        sees="what the backend's kernel says: a FIN, or a reset if it had not read all",
        took=took,
        others=bystander.verdict(),
        heals="the next session goes to whoever can be dialled",
    )


def ends(client):
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
