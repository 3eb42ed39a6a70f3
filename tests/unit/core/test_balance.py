"""Each balancing policy, and the laws stated in balance.py."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.balance import (
    MAX_POINTS,
    MOST_SCORED,
    POINTS_PER_WEIGHT,
    C,
    Candidate,
    KeyHash,
    LeastConnections,
    Policy,
    PolicyError,
    PowerOfTwo,
    PythonPolicy,
    Random,
    RoundRobin,
    RouteRequest,
    SourceHash,
    make_policy,
)
from gproxy.core.settings import BalanceSettings

REQUEST = RouteRequest("192.0.2.1", "web")

weights = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@dataclass
class Server:
    name: str
    weight: int = 1
    active: int = 0


class Cycled:
    """A random source that goes round the given numbers."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = cycle(numbers)

    def random(self) -> float:
        return next(self._numbers)


def servers(*of_weight: int) -> tuple[Server, ...]:
    return tuple(Server(name, weight) for name, weight in zip("abcdefghijklmnop", of_weight, strict=False))


def picks(policy: Policy, candidates: Sequence[Candidate], times: int) -> str:
    return "".join(policy.choose(candidates, REQUEST).name for _ in range(times))


def client(number: int) -> RouteRequest:
    return RouteRequest(f"10.0.{number >> 8}.{number & 255}", "web")


# --- round robin -----------------------------------------------------------------------


def test_round_robin_takes_turns() -> None:
    assert picks(RoundRobin(), servers(1, 1, 1), 7) == "abcabca"


def test_round_robin_spreads_a_heavy_one_out_as_nginx_does() -> None:
    assert picks(RoundRobin(), servers(5, 1, 1), 14) == "aabacaaaabacaa"


def test_equal_weights_above_one_are_equal_weights() -> None:
    assert picks(RoundRobin(), servers(7, 7), 4) == "abab"


@given(weights, st.integers(0, 60))
def test_any_round_gives_each_exactly_its_weight(each: list[int], before: int) -> None:
    policy, candidates = RoundRobin(), servers(*each)
    picks(policy, candidates, before)
    assert Counter(picks(policy, candidates, sum(each))) == {c.name: c.weight for c in candidates}


@given(weights)
def test_nobody_is_ever_a_whole_pick_ahead(each: list[int]) -> None:
    candidates, total = servers(*each), sum(each)
    chosen = picks(RoundRobin(), candidates, total)
    for count in range(1, total + 1):
        for one in candidates:
            assert chosen[:count].count(one.name) < count * one.weight / total + 1


@given(st.lists(st.sets(st.integers(1, 5), min_size=1), min_size=1, max_size=60))
def test_who_stays_waits_for_at_most_one_pick_of_each_other(others: list[set[int]]) -> None:
    policy, all_of_them = RoundRobin(), servers(1, 1, 1, 1, 1, 1)
    waited: Counter[str] = Counter()
    for present in others:
        chosen = policy.choose(tuple(all_of_them[i] for i in sorted({0} | present)), REQUEST).name
        waited = Counter() if chosen == "a" else waited + Counter(chosen)
        assert all(times <= 1 for times in waited.values())


def test_candidates_that_alternate_starve_nobody() -> None:
    a, b, c = servers(1, 1, 1)
    policy, lists = RoundRobin(), cycle([(a, b), (a, c)])
    chosen = Counter(policy.choose(next(lists), REQUEST).name for _ in range(60))
    assert chosen == {"a": 20, "b": 20, "c": 20}


def test_a_failing_one_does_not_double_its_neighbours_load() -> None:
    everybody = a, b, c, d = servers(1, 1, 1, 1)
    policy, served = RoundRobin(), Counter[str]()
    for _ in range(300):
        chosen = policy.choose(everybody, REQUEST)
        if chosen is a:
            chosen = policy.choose((b, c, d), REQUEST)
        served[chosen.name] += 1
    assert served == {"b": 100, "c": 100, "d": 100}


@given(weights.filter(lambda each: len(each) > 1), st.integers(0, 40), st.integers(1, 200))
def test_one_that_comes_back_is_not_flooded(each: list[int], before: int, away: int) -> None:
    policy, everybody, total = RoundRobin(), servers(*each), sum(each)
    picks(policy, everybody, before)
    picks(policy, everybody[1:], away)
    chosen = picks(policy, everybody, total).count("a")
    assert abs(chosen - each[0]) <= len(each)


def test_a_changed_weight_counts_from_the_next_round_on() -> None:
    policy, candidates = RoundRobin(), servers(1, 1)
    picks(policy, candidates, 2)
    candidates[0].weight = 3
    assert Counter(picks(policy, candidates, 8)) == {"a": 6, "b": 2}


def test_a_much_lower_weight_bars_nobody() -> None:
    policy, candidates = RoundRobin(), servers(1000, 999)
    picks(policy, candidates, 1)
    candidates[0].weight, candidates[1].weight = 2, 1
    assert Counter(picks(policy, candidates, 3)) == {"a": 2, "b": 1}


def test_equal_weights_look_at_one_candidate_only() -> None:
    looks = 0

    class Watched(Server):
        def __getattribute__(self, name: str) -> object:
            nonlocal looks
            looks += name == "weight"
            return super().__getattribute__(name)

    policy, candidates = RoundRobin(), tuple(Watched(f"b{i}") for i in range(50))
    policy.choose(candidates, REQUEST)
    looks = 0
    policy.choose(candidates, REQUEST)
    assert looks == 1


# --- by load ---------------------------------------------------------------------------


def test_least_connections_takes_the_least_busy() -> None:
    candidates = (Server("a", active=3), Server("b", active=1), Server("c", active=2))
    assert LeastConnections().choose(candidates, REQUEST).name == "b"


def test_least_connections_counts_by_weight() -> None:
    candidates = (Server("a", weight=1, active=1), Server("b", weight=4, active=5))
    assert LeastConnections().choose(candidates, REQUEST).name == "b"


def test_least_connections_rotates_ties() -> None:
    assert picks(LeastConnections(), servers(1, 1, 1), 6) == "abcabc"


@given(weights, st.integers(1, 200))
def test_least_connections_fills_in_proportion(each: list[int], sessions: int) -> None:
    policy, candidates = LeastConnections(), servers(*each)
    for _ in range(sessions):
        policy.choose(candidates, REQUEST).active += 1
    for one in candidates:  # nobody would have been better served by another
        assert one.active == 0 or all(one.active / one.weight <= (o.active + 1) / o.weight for o in candidates)


@pytest.mark.parametrize("policy", [RoundRobin(), LeastConnections()], ids=["round robin", "least connections"])
def test_what_is_kept_of_a_choice_has_a_bound(policy: Policy) -> None:
    """Thousands of choices are kept: with a number for each of a thousand servers they would take 30 KB apiece."""
    many = [Server(f"b{number}", 1 + number % 2) for number in range(MOST_SCORED + 1)]
    policy.choose(many[1:], client(1))
    assert len(policy.scored or ()) == MOST_SCORED
    policy.choose(many, client(1))
    assert policy.scored == ()


def test_p2c_takes_the_less_loaded_of_the_two() -> None:
    candidates = (Server("a", active=5), Server("b", active=0), Server("c", active=2))
    assert PowerOfTwo(Cycled(0.0, 0.9)).choose(candidates, REQUEST).name == "c"


def test_p2c_counts_by_weight() -> None:
    candidates = (Server("a", weight=1, active=1), Server("b", weight=4, active=5))
    assert PowerOfTwo(Cycled(0.0)).choose(candidates, REQUEST).name == "b"


@given(st.integers(2, 6), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_p2c_never_takes_the_busiest(count: int, one: float, other: float) -> None:
    candidates = tuple(Server(str(i), active=i) for i in range(count))
    assert PowerOfTwo(Cycled(one, other)).choose(candidates, REQUEST).active < count - 1


def test_p2c_serves_a_single_candidate() -> None:
    assert picks(PowerOfTwo(random.Random(1)), servers(1), 2) == "aa"


def test_p2c_spreads_ties() -> None:
    chosen = Counter(picks(PowerOfTwo(random.Random(1)), servers(1, 1, 1), 3000))
    assert all(900 < chosen[name] < 1100 for name in "abc")


def test_random_goes_by_weight() -> None:
    tenths = [i / 10 for i in range(10)]
    assert picks(Random(Cycled(*tenths)), servers(5, 2, 3), 10) == "aaaaabbccc"


# --- by client -------------------------------------------------------------------------


def test_a_client_keeps_its_backend() -> None:
    policy = SourceHash(servers(1, 1, 1))
    assert len({policy.choose(servers(1, 1, 1), client(7)).name for _ in range(5)}) == 1


def test_the_ring_does_not_depend_on_the_order_of_the_configuration() -> None:
    one, other = SourceHash(servers(1, 2, 1)), SourceHash(servers(1, 2, 1)[::-1])
    for number in range(200):
        chosen = one.choose(servers(1, 1, 1), client(number))
        assert chosen.name == other.choose(servers(1, 1, 1), client(number)).name


def chosen_by(policy: Policy, candidates: Sequence[Candidate], clients: int = 2000) -> list[str]:
    return [policy.choose(candidates, client(number)).name for number in range(clients)]


@given(st.integers(2, 10), st.data())
def test_losing_one_of_n_moves_its_clients_and_nobody_else(count: int, data: st.DataObject) -> None:
    members = servers(*[1] * count)
    gone = data.draw(st.sampled_from(members))
    policy = SourceHash(members)
    before = chosen_by(policy, members, 500)
    after = chosen_by(policy, tuple(m for m in members if m is not gone), 500)
    assert gone.name not in after
    assert all(was == now for was, now in zip(before, after, strict=True) if was != gone.name)


def test_losing_one_of_n_moves_about_an_nth_to_all_the_others() -> None:
    members = servers(1, 1, 1, 1, 1)
    policy = SourceHash(members)
    before, after = chosen_by(policy, members), chosen_by(policy, members[1:])
    moved = Counter(now for was, now in zip(before, after, strict=True) if was != now)
    assert 0.15 < moved.total() / len(before) < 0.25
    assert set(moved) == {"b", "c", "d", "e"}


def test_one_that_comes_back_gets_the_same_clients() -> None:
    members = servers(1, 1, 1)
    policy = SourceHash(members)
    before = chosen_by(policy, members)
    chosen_by(policy, members[1:])
    assert chosen_by(policy, members) == before


def test_taking_a_member_out_of_the_ring_moves_its_clients_alone() -> None:
    members = servers(1, 1, 1, 1)
    policy = SourceHash(members)
    before = chosen_by(policy, members)
    policy.rebuild(members[1:])
    after = chosen_by(policy, members[1:])
    assert all(was == now for was, now in zip(before, after, strict=True) if was != "a")


def test_the_ring_goes_by_weight() -> None:
    members = servers(1, 3)
    assert 0.65 < chosen_by(SourceHash(members), members).count("b") / 2000 < 0.85


def test_more_weight_only_gains_clients() -> None:
    members = servers(1, 1, 1)
    policy = SourceHash(members)
    before = chosen_by(policy, members)
    members[0].weight = 2
    policy.rebuild(members)
    after = chosen_by(policy, members)
    assert after.count("a") > before.count("a")
    assert all(now in (was, "a") for was, now in zip(before, after, strict=True))


def test_the_ring_is_bounded_and_keeps_a_point_for_everybody() -> None:
    members = tuple(Server(str(number), 1000) for number in range(40)) + servers(1)
    policy = SourceHash(members)
    assert len(policy._points) <= MAX_POINTS + len(members)
    assert set(policy._owners) == {member.name for member in members}


def test_all_points_differ() -> None:
    policy = SourceHash(servers(1, 2))
    assert len(set(policy._points)) == 3 * POINTS_PER_WEIGHT


def test_one_that_is_away_might_as_well_not_be_on_the_ring() -> None:
    members = servers(1, 1, 1, 1)
    assert chosen_by(SourceHash(members), members[1:]) == chosen_by(SourceHash(members[1:]), members[1:])


def test_a_member_new_on_the_ring_gets_clients_at_once() -> None:
    members = servers(1, 1)
    policy = SourceHash(members[:1])
    assert set(chosen_by(policy, members)) == {"a"}
    policy.rebuild(members)
    assert set(chosen_by(policy, members)) == {"a", "b"}


def test_clients_without_an_address_go_to_one_backend() -> None:
    members = servers(1, 1, 1)
    policy = SourceHash(members)
    assert len({policy.choose(members, RouteRequest("", "web")).name for _ in range(3)}) == 1


def test_candidates_that_the_ring_does_not_know_are_still_served() -> None:
    assert SourceHash(servers(1)).choose((Server("new"),), REQUEST).name == "new"


# --- by key ----------------------------------------------------------------------------


def keyed(key: str, client: str = "192.0.2.1") -> RouteRequest:
    return RouteRequest(client, "web", key)


def test_a_key_keeps_its_backend_whoever_sends_it() -> None:
    members = servers(1, 1, 1)
    policy = KeyHash(members)
    assert len({policy.choose(members, keyed("ann", f"10.0.0.{number}")).name for number in range(20)}) == 1


def test_keys_are_shared_out() -> None:
    members = servers(1, 1, 1)
    policy = KeyHash(members)
    chosen = Counter(policy.choose(members, keyed(f"user-{number}")).name for number in range(900))
    assert all(200 < chosen[name] < 400 for name in "abc")


def test_requests_without_a_key_take_turns() -> None:
    assert picks(KeyHash(servers(1, 1, 1)), servers(1, 1, 1), 7) == "abcabca"


def test_requests_without_a_key_take_turns_by_weight() -> None:
    assert picks(KeyHash(servers(2, 1)), servers(2, 1), 6).count("a") == 4


def test_requests_with_a_key_take_nobodys_turn() -> None:
    members = servers(1, 1, 1)
    policy, chosen = KeyHash(members), ""
    for number in range(6):
        chosen += policy.choose(members, keyed("")).name
        policy.choose(members, keyed(f"user-{number}"))
    assert chosen == "abcabc"


def test_a_key_belongs_to_whom_a_client_of_that_address_would() -> None:
    members = servers(1, 2, 1)
    by_key, by_source = KeyHash(members), SourceHash(members)
    for number in range(100):
        address = client(number).client
        assert by_key.choose(members, keyed(address)).name == by_source.choose(members, client(number)).name


def test_losing_a_member_moves_its_keys_alone() -> None:
    members = servers(1, 1, 1, 1)
    policy = KeyHash(members)
    requests = [keyed(f"user-{number}") for number in range(500)]
    before = [policy.choose(members, request).name for request in requests]
    after = [policy.choose(members[1:], request).name for request in requests]
    assert all(was == now for was, now in zip(before, after, strict=True) if was != "a")


def test_a_key_beyond_ascii_is_a_key() -> None:
    assert KeyHash(servers(1)).choose(servers(1), keyed("Zo\xeb \0")).name == "a"


# --- by a user's function --------------------------------------------------------------


def test_a_users_function_chooses() -> None:
    policy = PythonPolicy(lambda candidates, _: candidates[-1])
    assert picks(policy, servers(1, 1), 2) == "bb"


def test_a_users_function_is_told_who_asks() -> None:
    asked = []

    def choose(candidates: Sequence[Candidate], request: RouteRequest) -> Candidate:
        asked.append(request)
        return candidates[0]

    PythonPolicy(choose).choose(servers(1), REQUEST)
    assert asked == [REQUEST]


def test_a_users_function_that_raises_is_a_policy_error() -> None:
    policy = PythonPolicy(lambda *_: 1 / 0, "shop:choose")
    with pytest.raises(PolicyError, match=r"^policy shop:choose raised ZeroDivisionError: division by zero$"):
        policy.choose(servers(1), REQUEST)


@pytest.mark.parametrize("answer", [None, "a", Server("a")])
def test_a_users_function_must_return_a_candidate(answer: object) -> None:
    policy = PythonPolicy(lambda *_: answer, "shop:choose")
    with pytest.raises(PolicyError, match=r"^policy shop:choose returned .*, which is not one of the candidates$"):
        policy.choose(servers(1), REQUEST)


# --- all of them -----------------------------------------------------------------------


def first(candidates: Sequence[C], _request: RouteRequest) -> C:
    return candidates[0]


KINDS = {
    "round_robin": RoundRobin,
    "least_connections": LeastConnections,
    "p2c": PowerOfTwo,
    "random": Random,
    "source_hash": SourceHash,
    "hash": KeyHash,
    "python": PythonPolicy,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_names_the_policy(kind: str) -> None:
    policy = make_policy(BalanceSettings(kind=kind), servers(1), random.Random(1), first)
    assert type(policy) is KINDS[kind]


@pytest.mark.parametrize("kind", ["fastest", "python"])
def test_a_policy_that_cannot_be_made_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        make_policy(BalanceSettings(kind=kind), servers(1), random.Random(1))


@given(
    kind=st.sampled_from(sorted(KINDS)),
    rounds=st.lists(st.dictionaries(st.integers(0, 5), st.integers(1, 1000), min_size=1), max_size=20),
    seed=st.integers(0, 9),
)
def test_the_choice_is_always_one_of_the_candidates(kind: str, rounds: list[dict[int, int]], seed: int) -> None:
    members = servers(1, 1, 2, 1, 1, 1)
    policy = make_policy(BalanceSettings(kind=kind), members, random.Random(seed), first)
    for reweighted in rounds:
        for index, weight in reweighted.items():
            members[index].weight = weight
        candidates = tuple(members[index] for index in sorted(reweighted))
        for _ in range(2):
            assert policy.choose(candidates, REQUEST) in candidates
