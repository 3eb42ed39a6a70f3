"""Remembered: what is kept, and what is forgotten."""

from __future__ import annotations

from gproxy.core.remembered import Remembered


def test_what_is_kept_is_found() -> None:
    known: Remembered[bytes, int] = Remembered(2)
    known.keep(b"a", 1)
    assert (known.get(b"a"), known.get(b"b")) == (1, None)


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    known: Remembered[bytes, int] = Remembered(2)
    for number, key in enumerate([b"a", b"b", b"c"]):
        known.keep(key, number)
    assert dict(known) == {b"b": 1, b"c": 2}
