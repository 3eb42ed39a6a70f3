"""What is kept of the past, and how it gets from one steward to the next."""

import os

import pytest

from gproxy.admin import flips as flips_module
from gproxy.admin import keepsake as keepsake_module
from gproxy.admin.desk import Desk, Instance
from gproxy.admin.flips import Flip, Flips
from gproxy.admin.history import History
from gproxy.admin.keepsake import Keepsake
from gproxy.admin.recorder import Recorder
from gproxy.admin.streams import Streams
from gproxy.metrics import MetricsCollector


class Sums:
    """Of all processes."""

    def __init__(self):
        self.now = MetricsCollector([("app", "b1")])
        self.now.backend("app", "b1").healthy = 1

    def total(self):
        return self.now


@pytest.fixture
def sums():
    return Sums()


@pytest.fixture
def record(sums, clock):
    """Makes a recorder and its desk."""

    def make(keepsake=None, generation=1):
        instance = Instance(1, 0.0, generation, {})
        streams = Streams(lambda place: (place or (0, 0), {}))
        desk = Desk(instance, None, None, sums, {}, None, None, History([]), Flips(), streams, clock=clock)
        return Recorder(desk, keepsake or Keepsake()), desk

    return make


def told(desk):
    return [(flip["kind"], flip["what"]) for flip in desk.flips.after(0)]


def test_ejections_are_seen_in_the_counters_of_workers(record, sums):
    recorder, desk = record()
    stats = sums.now.backend("app", "b1")
    stats.ejections = 3  # before anybody looked
    recorder.tick()
    assert told(desk) == []
    stats.ejections, stats.ejected = 4, 1
    recorder.tick()
    recorder.tick()
    stats.ejected = 0
    recorder.tick()
    assert told(desk) == [("ejected", "ejected"), ("returned", "its ejection is over")]
    assert desk.flips.after(0)[0]["backend"] == "b1"


def test_the_end_of_an_ejection_is_no_news_of_a_backend_that_is_down(record, sums):
    recorder, desk = record()
    stats = sums.now.backend("app", "b1")
    stats.ejected = 1
    recorder.tick()
    stats.ejected = stats.healthy = 0
    recorder.tick()
    assert told(desk) == []


@pytest.mark.parametrize(("generation", "what"), [(1, "the steward was replaced"), (2, "configuration 2 is in effect")])
def test_the_next_steward_goes_on(record, clock, generation, what):
    keepsake = Keepsake()
    recorder, desk = record(keepsake)
    recorder.start()
    for _ in range(3):
        clock.advance(2)
        recorder.tick()
    desk.flipped("down", "is down", "app", "b1", why="refused")
    recorder.stop()
    assert desk.streams.over

    later, next_desk = record(keepsake, generation)
    next_desk.flipped("up", "is up", "app", "b1")  # its first checks
    later.start()
    assert told(next_desk) == [("began", "gproxy was started"), ("down", "is down"), ("began", what), ("up", "is up")]
    assert next_desk.history.after(0) == [list(sample) for sample in desk.history.after(0)]
    assert next_desk.history.number == 2
    later.stop()


def test_the_last_changes_alone_are_kept():
    flips = Flips()
    for n in range(flips_module.KEPT + 5):
        flips.add(Flip(float(n), "up", str(n)))
    assert (flips.number, len(flips.after(0))) == (flips_module.KEPT + 5, flips_module.KEPT)
    assert [flip["what"] for flip in flips.after(flips.number - 1)] == [str(flips_module.KEPT + 4)]


def test_a_keepsake_is_there_for_who_was_forked_earlier():
    keepsake = Keepsake()
    assert keepsake.read() == b""
    if (pid := os.fork()) == 0:
        keepsake.write(b"something long")
        keepsake.write(b"bytes")
        os._exit(0)
    os.waitpid(pid, 0)
    assert keepsake.read() == b"bytes"
    keepsake.write(b"x" * keepsake_module.SIZE)
    assert keepsake.read() == b""  # too long
