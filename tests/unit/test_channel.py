"""The channel between the master and a child: messages stay apart, ends are seen, and nobody ever waits."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from gproxy.channel import Channel

Pair = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Pair]:
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


def test_messages_stay_apart_and_in_order(ends: Pair) -> None:
    one, other = ends
    one.send(do="drain", timeout=1.5, gently=True)
    one.send(do="stop")
    assert other.receive() == [{"do": "drain", "timeout": 1.5, "gently": True}, {"do": "stop"}]
    assert other.receive() == []
    assert not other.over


def test_both_sides_may_speak(ends: Pair) -> None:
    one, other = ends
    one.send(do="stop")
    other.send(said="ready")
    assert (one.receive(), other.receive()) == ([{"said": "ready"}], [{"do": "stop"}])


def test_the_end_comes_after_the_last_words(ends: Pair) -> None:
    one, other = ends
    one.send(said="failed", why="it can't")
    one.close()
    assert other.receive() == [{"said": "failed", "why": "it can't"}]
    assert other.over


def test_last_words_are_heard_from_one_who_did_not_listen(ends: Pair) -> None:
    one, other = ends
    other.send(do="reopen")
    one.send(said="failed", why="it can't")
    one.close()
    assert other.receive() == [{"said": "failed", "why": "it can't"}]
    assert other.over


def test_the_end_can_be_waited_for(ends: Pair) -> None:
    one, other = ends
    one.close()
    assert select.select([other], [], [], 10)[0] == [other]


def test_the_death_of_a_process_is_the_end_of_its_channel(ends: Pair) -> None:
    one, other = ends
    child = os.fork()
    if child == 0:
        other.close()
        one.send(said="ready")
        os._exit(0)
    one.close()
    os.waitpid(child, 0)
    assert other.receive() == [{"said": "ready"}]
    assert other.over


def test_to_tell_somebody_who_has_gone_does_nothing(ends: Pair) -> None:
    one, other = ends
    other.close()
    one.send(do="stop")
    assert one.receive() == []
    assert one.over


def test_to_tell_somebody_who_does_not_listen_makes_nobody_wait(ends: Pair) -> None:
    one, other = ends
    for n in range(10_000):
        one.send(n=n)
    heard = [message["n"] for message in other.receive()]
    assert heard == list(range(len(heard)))
    assert 0 < len(heard) < 10_000
    one.send(do="stop")
    assert other.receive() == [{"do": "stop"}]


def test_a_long_text_is_cut_and_the_message_is_not(ends: Pair) -> None:
    one, other = ends
    text = "\N{PILE OF POO}" * 100_000
    one.send(said="failed", why=text)
    (message,) = other.receive()
    assert message["said"] == "failed"
    assert text.startswith(message["why"])
    assert message["why"]


def test_repr_tells_the_end(ends: Pair) -> None:
    one, other = ends
    number = one.fileno()
    assert repr(one) == f"<Channel {number}>"
    other.close()
    one.receive()
    assert repr(one) == f"<Channel {number} over>"
