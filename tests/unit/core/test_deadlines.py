"""Which deadline a session has passed, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.deadlines import FlowLook, overdue
from gproxy.core.settings import Timeouts
from gproxy.core.termination import Ended

TIMEOUTS = Timeouts(connection_idle_timeout=60.0, stall_timeout=20.0, half_close_timeout=30.0)


def flow(quiet: float, *, held: bool = False, ended: bool = False) -> FlowLook:
    return FlowLook(quiet, held, ended)


@pytest.mark.parametrize(
    ("up", "down", "code"),
    [
        # Idle: neither direction has moved.
        (flow(0), flow(0), None),
        (flow(59.9), flow(59.9), None),
        (flow(60), flow(60), Ended.CLIENT_TIMEOUT),
        (flow(1000), flow(59.9), None),
        (flow(59.9), flow(1000), None),
        # A peer that takes no more bytes.
        (flow(19.9, held=True), flow(0), None),
        (flow(20, held=True), flow(0), Ended.BACKEND_STALLED),
        (flow(0), flow(19.9, held=True), None),
        (flow(0), flow(20, held=True), Ended.CLIENT_TIMEOUT),
        (flow(20, held=True), flow(20, held=True), Ended.BACKEND_STALLED),
        (flow(1000), flow(19.9, held=True), None),
        # One side has finished.
        (flow(29.9, ended=True), flow(29.9), None),
        (flow(30, ended=True), flow(30), Ended.BACKEND_UNFINISHED),
        (flow(30), flow(30, ended=True), Ended.CLIENT_UNFINISHED),
        (flow(1000, ended=True), flow(29.9), None),  # a long download after the client's FIN
        (flow(29.9), flow(1000, ended=True), None),
        (flow(1000, ended=True), flow(20, held=True), Ended.CLIENT_TIMEOUT),
        # Both have: only the last bytes before a reset are left.
        (flow(19.9, held=True, ended=True), flow(19.9, held=True, ended=True), None),
        (flow(20, held=True, ended=True), flow(20, held=True, ended=True), Ended.BACKEND_STALLED),
    ],
)
def test_table(up: FlowLook, down: FlowLook, code: Ended | None) -> None:
    assert overdue(TIMEOUTS, up, down) == code


@pytest.mark.parametrize(("quiet", "code"), [(30, None), (39.9, None), (40, Ended.CLIENT_TIMEOUT)])
def test_what_is_held_after_a_fin_has_the_stall_timeout(quiet: float, code: Ended | None) -> None:
    patient = TIMEOUTS.override((("stall_timeout", 40.0),))
    assert overdue(patient, flow(1000, ended=True), flow(quiet, held=True)) == code


@pytest.mark.parametrize("name", ["connection_idle_timeout", "stall_timeout", "half_close_timeout"])
def test_each_timeout_counts(name: str) -> None:
    short = TIMEOUTS.override(((name, 1.0),))
    look = flow(1, held=name == "stall_timeout", ended=name == "half_close_timeout")
    assert overdue(short, look, flow(1)) is not None
    assert overdue(TIMEOUTS, look, flow(1)) is None


LOOKS = st.builds(FlowLook, st.floats(0, 200), st.booleans(), st.booleans())


@given(up=LOOKS, down=LOOKS)
def test_never_while_bytes_move_and_nobody_is_blocked(up: FlowLook, down: FlowLook) -> None:
    shortest = 20.0
    blocked = any(look.held and look.quiet >= shortest for look in (up, down))
    if min(up.quiet, down.quiet) < shortest and not blocked:
        assert overdue(TIMEOUTS, up, down) is None


@given(up=LOOKS, down=LOOKS)
def test_always_in_the_end(up: FlowLook, down: FlowLook) -> None:
    if min(up.quiet, down.quiet) >= 60.0:
        assert overdue(TIMEOUTS, up, down) is not None
