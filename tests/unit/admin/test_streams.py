"""Clients who are told what is new."""

import json

import gevent
import pytest

from gproxy.admin import streams as module
from gproxy.admin.answers import ApiError
from gproxy.admin.streams import Streams
from tests.support.poll import let_the_hub_run

TIMEOUT = 20.0  # seconds


class Patience:
    """Whether the client's time runs."""

    runs = True

    def cancel(self):
        self.runs = False

    def start(self):
        assert not self.runs
        self.runs = True


class Source:
    """Has numbers, and counts how often it is asked."""

    def __init__(self):
        self.numbers = [1]
        self.asked = 0

    def __call__(self, place):
        self.asked += 1
        after = (len(self.numbers), 0)
        return after, {"numbers": self.numbers[place[0] if place else 0 :]}


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def streams(source):
    return Streams(source)


def opened(streams):
    stream = streams.open()
    stream.patience = Patience()
    return stream


def parsed(piece):
    lines = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
    return lines["event"], json.loads(lines["data"])["numbers"]


def add(streams, source, number):
    source.numbers.append(number)
    streams.ring()


def test_all_at_first_and_then_what_is_new(streams, source):
    stream = opened(streams)
    assert parsed(next(stream)) == ("snapshot", [1])
    waiting = gevent.spawn(next, stream)
    let_the_hub_run()
    assert not waiting.ready()
    assert not stream.patience.runs
    add(streams, source, 2)
    assert parsed(waiting.get(timeout=TIMEOUT)) == ("news", [2])
    assert stream.patience.runs


def test_who_is_slow_gets_what_has_come_meanwhile_at_once(streams, source):
    stream = opened(streams)
    next(stream)
    for number in range(2, 100):
        add(streams, source, number)
    assert parsed(next(stream)) == ("news", list(range(2, 100)))


def test_clients_at_the_same_place_share_the_work(streams, source):
    clients = [opened(streams) for _ in range(3)]
    for stream in clients:
        next(stream)
    add(streams, source, 2)
    assert {next(stream) for stream in clients} == {next(iter(streams._events.values()))[1]}
    assert source.asked == 2


def test_silence_is_broken_by_comments(streams, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 0.001)
    stream = opened(streams)
    next(stream)
    assert next(stream) == b":\n\n"


def test_no_more_than_that(streams):
    clients = [opened(streams) for _ in range(module.MOST_STREAMS)]
    with pytest.raises(ApiError, match="no more than 16 streams") as refused:
        streams.open()
    assert refused.value.status == 503
    clients[0].close()
    clients[0].close()
    opened(streams)
    assert "16 of 16" in repr(streams)


def test_the_end_ends_all(streams):
    stream = opened(streams)
    next(stream)
    waiting = gevent.spawn(next, stream, None)
    let_the_hub_run()
    streams.end()
    assert waiting.get(timeout=TIMEOUT) is None
