"""Nothing that a client or a backend writes lets it put words into another's mouth.

Every case goes over the same few pooled connections to two strict origins, which write down
what comes. A mutation is refused or it has one meaning; the request that is hidden in it never
becomes one, and whoever asks next gets their own response.
"""

import contextlib
import re
import socket
from collections.abc import Callable

import pytest

from tests.support.ends import TIMEOUT
from tests.support.http_lies import LyingAnswer, lying_answers
from tests.support.http_mutations import MARK, Mutation, mutations
from tests.support.http_origin import Lie, Notes, RecordingOrigin
from tests.support.http_wire import Response, Wire, read_response
from tests.support.proxy import Gproxy

pytestmark = pytest.mark.xdist_group("smuggling")

CONFIG = """
log: {access: off}
listeners: [{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: none}
    pool: {size: 2}
    backends: [{name: b1, address: "${B1}"}, {name: b2, address: "${B2}"}]
"""
VICTIMS = 4  # after each case: two for each backend
REFUSALS = {*range(400, 500), 501, 505}
FAILURES = {502, 504}

MUTATIONS = mutations()
LIES = lying_answers()


class Scene:
    """gproxy before two recording origins, and a client of good behaviour."""

    def __init__(self, proxy: Gproxy, notes: Notes, origins: list[RecordingOrigin]):
        self.proxy = proxy
        self.notes = notes
        self.origins = origins
        self._asked: set[bytes] = set()
        self._number = 0
        self._bystander = self._wire()

    @contextlib.contextmanager
    def case(self):
        """The number of the next case. What came of it is checked at its end."""
        self._number += 1
        try:
            yield self._number
            self.check_bystanders(self._number)
            self._check_origins()
        finally:
            self.notes.arrivals.clear()
            self.notes.complaints.clear()

    def _wire(self) -> Wire:
        sock = self.proxy.connect("web", TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(sock)

    @contextlib.contextmanager
    def client(self):
        wire = self._wire()
        with wire.sock:
            yield wire

    def expect(self, target: bytes) -> None:
        """An origin may see this one."""
        self._asked.add(target)

    def ask(self, wire: Wire, target: bytes, method: bytes = b"GET") -> Response | None:
        self.expect(target)
        wire.sock.sendall(b"%s %s HTTP/1.1\r\nHost: origin\r\n\r\n" % (method, target))
        return read_response(wire, method)

    def check_client(self, wire: Wire, number: int) -> None:
        """Whose connection is closed, or it gets the response to what it asks for next."""
        target = b"/after-%04d" % number
        with contextlib.suppress(ConnectionError):
            if (response := self.ask(wire, target)) is not None:
                check_own(response, b"GET", target)
                assert not response.interim

    def settle(self) -> None:
        """Have gproxy's loop go round: what was sent to it before is dealt with then."""
        self.ask(self._bystander, b"/settle")

    def check_bystanders(self, number: int) -> None:
        """Those who ask next, on another connection, get their own responses."""
        for each in range(VICTIMS):
            target = b"/victim-%04d-%d" % (number, each)
            try:
                response = self.ask(self._bystander, target)
                check_own(response, b"GET", target)
                assert not response.interim
            except BaseException:
                self._bystander.sock.close()
                self._bystander = self._wire()
                raise

    def check_meaning(self, target: bytes, mutation: Mutation) -> None:
        """Whatever the client was told: an origin that read the whole of it read it in one of its meanings."""
        for arrival in self.notes.of(target):
            assert arrival.body is None or arrival.body in mutation.bodies, arrival

    def _check_origins(self) -> None:
        """They saw nothing that nobody asked for, and could read everything in one way."""
        assert not self.notes.complaints, "\n".join(self.notes.complaints)
        strays = [arrival for arrival in self.notes.arrivals if arrival.target not in self._asked]
        assert not strays, strays

    def close(self) -> None:
        self._bystander.sock.close()


def check_own(response: Response | None, method: bytes, target: bytes) -> None:
    assert response, "no response"
    assert (response.status, response.whole) == (200, True)
    assert response.body == (b"" if method == b"HEAD" else method + b" " + target)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    notes = Notes()
    origins = [RecordingOrigin(name, notes) for name in ("b1", "b2")]
    environ = {"B1": origins[0].address, "B2": origins[1].address}
    directory = tmp_path_factory.mktemp("smuggling")
    with origins[0], origins[1], Gproxy(directory, CONFIG, environ=environ) as proxy:
        scene = Scene(proxy, notes, origins)
        yield scene
        scene.close()
        assert "Traceback" not in proxy.log(), proxy.log()[-5000:]


def test_different_clients_share_the_connections_to_the_origins(scene):
    scene.check_bystanders(0)
    before = [origin.connections for origin in scene.origins]
    for _ in range(4):
        with scene.client() as wire:
            check_own(scene.ask(wire, b"/shared"), b"GET", b"/shared")
        scene.check_bystanders(0)
    assert [origin.connections for origin in scene.origins] == before


# --- requests ---------------------------------------------------------------------------


def at_once(raw: bytes) -> list[bytes]:
    return [raw]


def by_line_ends(raw: bytes) -> list[bytes]:
    """Cut after each CR and each LF, where there are not too many."""
    pieces = re.findall(rb"[^\r\n]*[\r\n]|[^\r\n]+", raw)
    return pieces if len(pieces) < 200 else [raw]


def send(wire: Wire, pieces: list[bytes], settle: Callable[[], object] = lambda: None) -> None:
    """`settle` is called between two pieces."""
    with contextlib.suppress(ConnectionError):  # it may be refused before it ends
        for piece in pieces[:-1]:
            wire.sock.sendall(piece)
            settle()
        wire.sock.sendall(pieces[-1])


def check_answer(scene: Scene, wire: Wire, mutation: Mutation, target: bytes, number: int) -> None:
    """Refused and closed, or answered as what it was taken for, and nothing more is said."""
    response = read_response(wire, mutation.method)
    assert response, "closed without an answer"
    if response.status in REFUSALS:
        assert wire.at_end(), f"it goes on after {response.status}"
        return
    assert mutation.bodies, f"it must be refused, and the answer is {response.status}"
    check_own(response, mutation.method, target)
    assert [arrival.body for arrival in scene.notes.of(target)][-1:] != [None]
    scene.check_client(wire, number)


@pytest.mark.parametrize("cut", [at_once, by_line_ends], ids=["at once", "in pieces"])
@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_request_has_one_meaning_or_is_refused(scene, mutation, cut):
    with scene.case() as number:
        mutation, target = mutation.numbered(number), MARK.replace(b"NNNN", b"%04d" % number)
        scene.expect(target)
        with scene.client() as wire:
            send(wire, cut(mutation.raw), scene.settle)
            check_answer(scene, wire, mutation, target, number)
        scene.check_meaning(target, mutation)


def test_the_origins_would_notice_a_proxy_that_passes_everything_on():
    """They take each mutation in one of its meanings, or complain: never in another."""
    notes = Notes()
    with RecordingOrigin("b1", notes) as origin:
        for number, mutation in enumerate(MUTATIONS):
            mutation = mutation.numbered(number)
            with socket.create_connection(("127.0.0.1", origin.port), TIMEOUT) as sock:
                wire = Wire(sock)
                send(wire, [mutation.raw])
                with contextlib.suppress(ConnectionError):
                    sock.shutdown(socket.SHUT_WR)
                wire.rest()
            complained = bool(notes.complaints)
            read = {arrival.body for arrival in notes.arrivals if arrival.body is not None}
            assert complained or read <= set(mutation.bodies), mutation.name
            notes.arrivals.clear()
            notes.complaints.clear()


def test_there_are_enough_of_them():
    assert len({mutation.raw for mutation in MUTATIONS}) >= 150
    assert len({lie.raw for lie in LIES}) >= 50


# --- responses --------------------------------------------------------------------------


def check_told(response: Response | None, lie: LyingAnswer, honest: bytes) -> None:
    """An error of gproxy's, a response broken off, or the response in its one meaning."""
    assert response, "closed without an answer"
    if not response.whole:
        assert response.status, "half a head"
        told = bytes(response.body)
        assert any(body.startswith(told) for body in (*lie.bodies, honest)), told
    elif response.status not in FAILURES:
        assert response.status in (200, 204, 304)
        assert response.body in lie.bodies


@pytest.mark.parametrize("lie", LIES, ids=[lie.name for lie in LIES])
def test_a_response_has_one_meaning_or_is_an_error(scene, lie):
    with scene.case() as number, scene.client() as wire:
        lie, target = lie.numbered(number), b"/lie-%04d" % number
        told = scene.notes.lies[target] = Lie(lie.raw, lie.then, lie.afterwards)
        response = scene.ask(wire, target, lie.method)
        check_told(response, lie, b"honest-%04d" % number)
        if lie.afterwards:
            told.go.set()
            assert told.said.wait(TIMEOUT)
        scene.check_bystanders(number)
        if response and response.whole:
            scene.check_client(wire, number)
