"""The law of the relay, for any order of events: what arrives is what was sent, and ends as it ended.

Two peers send, pause, read slowly, finish and reset as Hypothesis chooses, with buffers of
its choice. Then, in each direction whose reader did not reset:

- what arrives is a prefix of what was sent, and everything that the relay had read;
- if nobody resets, it is all that was sent, and ends with FIN;
- after a reset by the sender it ends with RST. It is all that was sent, but for what the
  sender's own kernel still held: a reset throws that away.

What a peer gets that resets itself is a prefix too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import gevent
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gproxy.net.connection import unacknowledged
from gproxy.net.relay import Flow
from tests.support.loopback import TIMEOUT, End, Peer, descriptors
from tests.support.poll import eventually
from tests.support.relayed import Relayed

FINISH, RESET, RESET_LATER = "finishes", "resets", "resets once all is acknowledged"


@dataclass(frozen=True)
class Script:
    """What one peer does."""

    chunks: list[tuple[int, int]]  # turns of the hub to pause for, then bytes to send
    last: str
    reads: int  # bytes at once
    read_pause: int  # turns of the hub before each read
    connection: dict[str, Any]

    @property
    def unix(self) -> bool:
        return "unix" in self.connection


_SIZES = st.one_of(st.integers(1, 100), st.integers(1, 300 * 1024), st.sampled_from([65535, 65536, 65537, 300 * 1024]))
_BUFFERS = st.sampled_from([0, 0, 4096, 32 * 1024, 128 * 1024])
_TCP = st.builds(lambda theirs, ours: {"peer_buffer": theirs, "our_buffer": ours}, _BUFFERS, _BUFFERS)
_SCRIPTS = st.builds(
    Script,
    chunks=st.lists(st.tuples(st.integers(0, 4), _SIZES), max_size=6),
    last=st.sampled_from([FINISH, FINISH, FINISH, RESET, RESET_LATER]),
    reads=st.sampled_from([1000, 1 << 16, 1 << 20]),
    read_pause=st.integers(0, 3),
    connection=st.one_of(_TCP, _TCP, _TCP, st.just({"unix": True})),
)


class Player:
    """A peer that follows its script. `sent` is what it has offered to its kernel."""

    def __init__(self, peer: Peer, script: Script):
        self.peer = peer
        self.script = script
        self.sent = b""
        self.received = bytearray()
        self.end: End | None = None
        self._reading: Any = None

    def play(self) -> Any:
        """In greenlets of its own; the one returned is over when the peer has read to the end, or has reset."""
        self._reading = gevent.spawn(self._read)
        return gevent.spawn(self._play)

    def _play(self) -> None:
        try:
            self._write()
        except ConnectionError:
            self.end = End.RESET  # the kernel says it once: to who reads, or to who writes
        self._reading.join()

    def _write(self) -> None:
        noise = random.Random(len(self.script.chunks))
        for pause, size in self.script.chunks:
            take_turns(pause)
            data = noise.randbytes(size)
            self.sent += data
            self.peer.send(data)
        if self.script.last == RESET_LATER:
            eventually(lambda: self.end is End.RESET or not unacknowledged(self.peer.sock), TIMEOUT)
        if self.script.last == FINISH:
            self.peer.finish()
        else:
            self._reading.kill()
            self.peer.reset()

    def _read(self) -> None:
        try:
            while data := self.peer.sock.recv(self.script.reads):
                self.received += data
                take_turns(self.script.read_pause)
        except ConnectionError:
            self.end = End.RESET
        self.end = self.end or End.FIN


def take_turns(count: int) -> None:
    for _ in range(count):
        gevent.sleep(0)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(client=_SCRIPTS, backend=_SCRIPTS)
def test_what_arrives_is_what_was_sent(client: Script, backend: Script) -> None:
    before = sockets()
    session = Relayed(client=client.connection, backend=backend.connection)
    try:
        players = Player(session.client, client), Player(session.backend, backend)
        session.start()
        gevent.joinall([player.play() for player in players], raise_error=True)
        session.wait_over()
        assert session.ended == 1
        check(*players, session.relay.up)
        check(*players[::-1], session.relay.down)
    finally:
        session.close()
    assert sockets() == before
    event(f"client {client.last}, backend {backend.last}")


def check(sender: Player, receiver: Player, flow: Flow) -> None:
    """The law, for one direction."""
    received = bytes(receiver.received)
    assert sender.sent.startswith(received)
    if receiver.script.last != FINISH:
        return  # it has thrown away what was still to be read
    assert len(received) == flow.received
    if sender.script.last == FINISH:
        assert (received, receiver.end) == (sender.sent, End.FIN)
        return
    if sender.script.last == RESET_LATER:
        assert received == sender.sent
    if not (sender.script.unix or receiver.script.unix):  # unix sockets know no RST
        assert receiver.end is End.RESET


def sockets() -> set[str]:
    return {d for d in descriptors() if "socket:" in d}
