"""What made a policy choose, in words and in numbers: a look at a choice that was made, by what it has `scored`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gproxy.core.balance import RouteRequest, Scored
from gproxy.core.settings import BalanceSettings


class Scoring(NamedTuple):
    """`scores` has (name, number) of each candidate that was looked at; there are none where numbers say nothing."""

    why: str
    scores: tuple[tuple[str, float], ...] = ()


class Choice(NamedTuple):
    """Of what is to be explained: names, and what the policy has left."""

    candidates: Sequence[str]
    chosen: str
    request: RouteRequest
    scored: Scored
    owner: str = ""  # to whom the key belongs, where the policy hashes


def scoring(balance: BalanceSettings, choice: Choice) -> Scoring:
    """Why the chosen one was chosen."""
    sticky = choice.request.sticky
    if sticky and sticky == choice.chosen:
        return Scoring("the client's cookie asks for it")
    found = _by_policy(balance, choice) if len(choice.candidates) > 1 else Scoring("the only candidate")
    if sticky:
        return Scoring(f"{found.why}; the client's cookie asks for {sticky}, which is no candidate", found.scores)
    return found


def _by_policy(balance: BalanceSettings, choice: Choice) -> Scoring:
    if isinstance(choice.scored, str):
        return Scoring(f"its turn, since {choice.scored}")
    scored = tuple(choice.scored or ())
    match balance.kind:
        case "round_robin" if choice.scored is not None:
            return Scoring("its turn by weight: the highest credit", _each(choice, scored))
        case "round_robin":
            return Scoring("its turn")
        case "least_connections":
            return Scoring("the least load", _each(choice, scored))
        case "p2c":
            return Scoring("the lesser load of two taken at random", _two(choice, scored))
        case "random":
            return Scoring("at random, by weight")
        case "source_hash":
            return Scoring(_owned(choice, f"the client's address {choice.request.client or 'of a unix socket'}"))
        case "hash" if choice.request.key:
            return Scoring(_owned(choice, f"{balance.argument} {choice.request.key[:100]!r}"))
        case "hash":
            return Scoring(f"its turn, since the request has no {balance.argument}")
    return Scoring(f"the choice of {balance.argument}")


def _each(choice: Choice, scored: Sequence[float]) -> tuple[tuple[str, float], ...]:
    return tuple(zip(choice.candidates, (round(score, 3) for score in scored), strict=False))


def _two(choice: Choice, scored: Sequence[float]) -> tuple[tuple[str, float], ...]:
    if not scored:
        return ()
    one, other, its, others = scored
    looked_at = {int(one): its, int(other): others}
    return tuple((choice.candidates[index], round(looked_at[index], 3)) for index in sorted(looked_at))


def _owned(choice: Choice, key: str) -> str:
    if choice.owner == choice.chosen:
        return f"{key} hashes to it"
    return f"{key} hashes to {choice.owner}, which is no candidate, and then to it"
