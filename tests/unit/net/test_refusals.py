"""Clients that are turned away: what they get, and that nobody waits for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from gevent import get_hub

from gproxy.net import refusals
from gproxy.net.refusals import HELD, Answered, Resets
from tests.support.loopback import TIMEOUT, End, Peer, pair
from tests.support.poll import eventually, let_the_hub_run

ANSWER = b"HTTP/1.1 503 no\r\n\r\n"


class Door:
    """Clients that are turned away with an answer."""

    def __init__(self) -> None:
        self.answered: list[Any] = []
        self.counted = 0
        self.answers = Answered(get_hub().loop, self._answer, self._count)
        self._peers: list[Peer] = []

    def _answer(self, peer: Any) -> bytes:
        self.answered.append(peer)
        return ANSWER

    def _count(self) -> None:
        self.counted += 1

    def refuse(self, sent: bytes = b"") -> Peer:
        """A client that has sent so much by then."""
        peer, ours = pair()
        self._peers.append(peer)
        if sent:
            peer.send(sent)
        self.answers.refuse(ours, "peer")
        return peer

    def close(self) -> None:
        self.answers.close()
        for peer in self._peers:
            peer.close()


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Where nobody's time is ever over."""
    monkeypatch.setattr(refusals, "_PATIENCE", 3600.0)
    with contextlib.closing(Door()) as made:
        yield made


def ours_closed(door: Door) -> bool:
    return "<Answered 0 held>" in repr(door.answers)


def test_a_reset() -> None:
    counted: list[int] = []
    client, ours = pair()
    Resets(lambda: counted.append(1)).refuse(ours, "peer")
    assert client.rest() == (b"", End.RESET)
    assert counted == [1]
    client.close()


def test_a_request_is_answered_before_anybody_waits(door: Door) -> None:
    client = door.refuse(b"GET / HTTP/1.1\r\n\r\n")
    assert (door.answered, door.counted) == (["peer"], 1)
    assert client.rest() == (ANSWER, End.FIN)


def test_a_request_that_comes_later_is_answered_then(door: Door) -> None:
    client = door.refuse()
    let_the_hub_run()
    assert (door.answered, door.counted) == ([], 1)
    client.send(b"G")
    assert client.rest() == (ANSWER, End.FIN)


def test_what_a_client_still_sends_does_not_cost_it_the_answer(door: Door) -> None:
    """A socket that is closed with bytes unread, or gets some then, resets; and a reset throws the answer away."""
    client = door.refuse(b"POST / HTTP/1.1\r\n")
    client.send(b"x" * 200_000)
    client.wait_acknowledged()
    assert client.rest() == (ANSWER, End.FIN)


def test_it_is_over_when_the_client_leaves(door: Door) -> None:
    client = door.refuse(b"GET /")
    client.rest()
    client.close()
    eventually(lambda: ours_closed(door), TIMEOUT, "it is let go")


@pytest.mark.parametrize("leave", [Peer.finish, Peer.reset])
def test_a_client_that_leaves_without_a_byte_is_told_nothing(door: Door, leave: Any) -> None:
    client = door.refuse()
    leave(client)
    eventually(lambda: ours_closed(door), TIMEOUT, "it is let go")
    assert (door.answered, door.counted) == ([], 1)


def test_a_client_that_never_stops_is_cut_off(door: Door) -> None:
    client = door.refuse(b"x")
    with pytest.raises(ConnectionError):  # reset, or a broken pipe
        client.send(b"x" * (64 << 20))


def test_a_silent_client_is_told_when_its_time_is_over(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = []
    for patience in (0.01, 0.01, 0.02):
        monkeypatch.setattr(refusals, "_PATIENCE", patience)
        clients.append(door.refuse())
    for client in clients:
        assert client.rest() == (ANSWER, End.FIN)
    eventually(lambda: ours_closed(door), TIMEOUT)


def test_one_too_many_ends_the_oldest(door: Door) -> None:
    first, second, *_ = [door.refuse() for _ in range(HELD)]
    assert door.answered == []
    door.refuse()
    assert first.rest() == (ANSWER, End.FIN)
    assert len(door.answered) == 1
    second.send(b"G")
    assert second.rest() == (ANSWER, End.FIN)


def test_the_end_of_all(door: Door) -> None:
    silent, told = door.refuse(), door.refuse(b"GET")
    door.answers.close()
    assert silent.rest() == told.rest() == (ANSWER, End.FIN)
    assert ours_closed(door)


def test_a_client_whose_socket_fails_hurts_nobody(door: Door) -> None:
    client, ours = pair()
    client.send(b"GET")
    client.reset()
    door.answers.refuse(ours, "peer")
    eventually(lambda: ours.fileno() == -1, TIMEOUT, "it is closed")
    client.close()
