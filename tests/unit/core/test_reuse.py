"""Whether a connection may be lent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gproxy.core.reuse import QuietEnd, quiescent_objection

CLEAN = QuietEnd(held_up=0, held_down=0, unacknowledged=0, answered=True, backend_fin=False)


def test_a_clean_end_has_nothing_against_it() -> None:
    assert quiescent_objection(CLEAN) is None


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ({"held_up": 1}, "bytes are still on their way through gproxy"),
        ({"held_down": 1}, "bytes are still on their way through gproxy"),
        ({"unacknowledged": 1}, "the backend has not confirmed every byte"),
        ({"answered": False}, "the client's last bytes have no answer yet"),
        ({"backend_fin": True}, "the backend has ended it"),
    ],
)
def test_each_thing_against_it_suffices(change: dict[str, Any], objection: str) -> None:
    assert quiescent_objection(replace(CLEAN, **change)) == objection
