"""Why a policy chose whom it chose, in words."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy.core.balance import RouteRequest, Scored
from gproxy.core.scoring import Choice, Scoring, scoring
from gproxy.core.settings import BalanceSettings

NAMES = ("b1", "b2", "b3")


def why(
    kind: str, scored: Scored = None, *, chosen: str = "b1", owner: str = "", argument: str = "", **asked: Any
) -> Scoring:
    request = RouteRequest(asked.pop("client", "192.0.2.1"), "web", **asked)
    return scoring(BalanceSettings(kind=kind, argument=argument), Choice(NAMES, chosen, request, scored, owner))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (why("round_robin"), Scoring("its turn")),
        (
            why("round_robin", [5, -1, 1]),
            Scoring("its turn by weight: the highest credit", (("b1", 5), ("b2", -1), ("b3", 1))),
        ),
        (why("round_robin", ()), Scoring("its turn by weight: the highest credit")),
        (why("least_connections", ()), Scoring("the least load")),
        (
            why("least_connections", [1.0, 2.0, 1 / 3]),
            Scoring("the least load", (("b1", 1.0), ("b2", 2.0), ("b3", 0.333))),
        ),
        (
            why("p2c", (2, 0, 1.5, 4.0)),
            Scoring("the lesser load of two taken at random", (("b1", 4.0), ("b3", 1.5))),
        ),
        (why("random"), Scoring("at random, by weight")),
        (why("source_hash", owner="b1"), Scoring("the client's address 192.0.2.1 hashes to it")),
        (
            why("source_hash", owner="b4"),
            Scoring("the client's address 192.0.2.1 hashes to b4, which is no candidate, and then to it"),
        ),
        (
            why("hash", argument="header:X-User", key="alice", owner="b1"),
            Scoring("header:X-User 'alice' hashes to it"),
        ),
        (why("hash", argument="header:X-User"), Scoring("its turn, since the request has no header:X-User")),
        (why("python", argument="my.policies:choose"), Scoring("the choice of my.policies:choose")),
        (why("python", "policy choose raised Boom: x"), Scoring("its turn, since policy choose raised Boom: x")),
        (why("random", sticky="b1"), Scoring("the client's cookie asks for it")),
        (
            why("random", sticky="b9"),
            Scoring("at random, by weight; the client's cookie asks for b9, which is no candidate"),
        ),
    ],
)  # fmt: skip
def test_why(found: Scoring, expected: Scoring) -> None:
    assert found == expected


def test_where_there_is_no_choice_the_policy_is_not_the_reason() -> None:
    """It was not asked: what it has scored is another choice's."""
    choice = Choice(("b1",), "b1", RouteRequest("192.0.2.1", "web"), [7.0, 9.0])
    assert scoring(BalanceSettings(kind="least_connections"), choice) == Scoring("the only candidate")
