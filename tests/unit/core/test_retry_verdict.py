"""Which failure of a request allows another try: the table of the design, section 8."""

from __future__ import annotations

import pytest

from gproxy.core.retry import IDEMPOTENT, Failure, Verdict, retry_verdict

DIAL, REUSED_DIED, FRESH_DIED, TIMED_OUT, BROKEN = Failure
FRESH_CONNECTION, NEXT_BACKEND, GIVE_UP = Verdict


@pytest.mark.parametrize(
    ("failure", "idempotent", "replayable", "verdict"),
    [
        (DIAL, True, True, NEXT_BACKEND),
        (DIAL, True, False, NEXT_BACKEND),
        (DIAL, False, True, NEXT_BACKEND),
        (DIAL, False, False, NEXT_BACKEND),
        (REUSED_DIED, True, True, FRESH_CONNECTION),
        (REUSED_DIED, True, False, GIVE_UP),
        (REUSED_DIED, False, True, GIVE_UP),
        (REUSED_DIED, False, False, GIVE_UP),
        (FRESH_DIED, True, True, NEXT_BACKEND),
        (FRESH_DIED, True, False, GIVE_UP),
        (FRESH_DIED, False, True, GIVE_UP),
        (FRESH_DIED, False, False, GIVE_UP),
        (TIMED_OUT, True, True, GIVE_UP),
        (TIMED_OUT, False, False, GIVE_UP),
        (BROKEN, True, True, GIVE_UP),
        (BROKEN, False, False, GIVE_UP),
    ],
)
def test_the_table(failure: Failure, idempotent: bool, replayable: bool, verdict: Verdict) -> None:
    actual = retry_verdict(failure, idempotent=idempotent, replayable=replayable, attempts=1, retries=2)
    assert actual is verdict


@pytest.mark.parametrize("failure", [DIAL, FRESH_DIED])
@pytest.mark.parametrize(
    ("attempts", "retries", "verdict"),
    [
        (1, 0, GIVE_UP),
        (1, 1, NEXT_BACKEND),
        (2, 1, GIVE_UP),
        (2, 2, NEXT_BACKEND),
        (3, 2, GIVE_UP),
        (4, 2, GIVE_UP),
    ],
)
def test_retries_bound_the_tries_of_other_backends(
    failure: Failure, attempts: int, retries: int, verdict: Verdict
) -> None:
    actual = retry_verdict(failure, idempotent=True, replayable=True, attempts=attempts, retries=retries)
    assert actual is verdict


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_fresh_connection_is_not_bounded_by_retries(attempts: int) -> None:
    actual = retry_verdict(REUSED_DIED, idempotent=True, replayable=True, attempts=attempts, retries=0)
    assert actual is FRESH_CONNECTION


def test_the_idempotent_methods() -> None:
    assert {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"} == IDEMPOTENT
