"""Balancing policies: which of the candidates gets the next session.

The caller filters (eligible, not yet tried, not full) and the policy only prefers. The
laws that hold for each of them:

- the choice is one of the candidates, and choosing never yields;
- candidates come as a tuple in configuration order. The same tuple object means the same
  candidates, so that what was worked out for it is kept until another one is passed;
- a candidate is known by its name, so that it keeps its place while it is away;
- weights and active counts are read at each choice. The hash ring alone has to be
  told of new weights (``rebuild``).

| policy | chooses | cost |
|---|---|---|
| RoundRobin | by turns, each as often as its weight | O(1) with equal weights, else O(n) |
| LeastConnections | the least (active + 1) / weight | O(n) |
| PowerOfTwo | the lesser (active + 1) / weight of two random ones | O(1) |
| Random | at random, each as often as its weight | O(n) |
| SourceHash | the same one for the same client address | O(log points) |
| KeyHash | the same one for the same key of a request; by turns without one | O(log points) |
| PythonPolicy | what a function of the user's says | the function's own |
"""

from __future__ import annotations

from bisect import bisect, bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, TypeVar

from gproxy.core.settings import BalanceSettings
from gproxy.errors import GproxyError

# More points share the clients out more evenly (160: within about a tenth) and cost memory.
POINTS_PER_WEIGHT = 160
# 100 bytes each; beyond it all members get proportionally fewer, but each at least one.
MAX_POINTS = 32768

_POINT_BYTES = 8
_POINTS_PER_DIGEST = blake2b.MAX_DIGEST_SIZE // _POINT_BYTES


class PolicyError(GproxyError):
    """A user's policy raised, or chose what was not offered. The caller falls back to round robin."""


class Candidate(Protocol):
    """What a policy may know of a backend."""

    @property
    def name(self) -> str:
        """Unique among the members of an upstream."""

    @property
    def weight(self) -> int:
        """At least 1."""

    @property
    def active(self) -> int:
        """Connections borrowed now."""


C = TypeVar("C", bound=Candidate)


class RouteRequest(NamedTuple):
    """Who asks to be routed. A named tuple, because one is made for every request."""

    client: str  # the ip address as text; empty for a client of a unix socket
    listener: str
    key: str = ""  # http: what balance.hash names, taken from the request; empty where the request lacks it
    sticky: str = ""  # http: the name of the backend that the client's cookie asks for


Scored = Sequence[Any] | str | None  # what a policy has looked at, for core/scoring.py to tell; most have no need
MOST_SCORED = 50  # candidates beyond which it is empty: it is kept for thousands of choices (stories.py)


class Policy(Protocol):
    scored: Scored  # at the last choice

    def choose(self, candidates: Sequence[C], request: RouteRequest, /) -> C:
        """One of the candidates, of which there is at least one."""


class Rng(Protocol):
    def random(self) -> float:
        """From 0 to below 1."""


PythonChoice = Callable[[Sequence[Candidate], RouteRequest], object]


def make_policy(
    settings: BalanceSettings, members: Sequence[Candidate], rng: Rng, python: PythonChoice | None = None
) -> Policy:
    """The policy that the configuration names. ValueError for one that config.py would have refused."""
    match settings.kind:
        case "round_robin":
            return RoundRobin()
        case "least_connections":
            return LeastConnections()
        case "p2c":
            return PowerOfTwo(rng)
        case "random":
            return Random(rng)
        case "source_hash":
            return SourceHash(members)
        case "hash":
            return KeyHash(members)
        case "python" if python is not None:
            return PythonPolicy(python, settings.argument)
    raise ValueError(f"no balancing policy {settings.kind!r}")


def load(candidate: Candidate) -> float:
    """What the next session would make of its load. Equal loads compare equal: division rounds correctly."""
    return (candidate.active + 1) / candidate.weight


# --- round robin -----------------------------------------------------------------------


class _Share:
    """The place of one candidate in the rounds."""

    __slots__ = ("credit", "index", "last", "weight")

    def __init__(self) -> None:
        self.index = 0  # its position among the candidates seen last
        self.weight = 0  # as it was when seen last
        self.credit = 0  # nginx's current_weight; the credits of all shares add up to 0
        self.last = 0  # the number of the pick that chose it last


class RoundRobin:
    """Smooth weighted turns, as nginx takes them, with a rotation for equal weights.

    - The same candidates: any sum(weights) picks in a row choose each exactly its weight times,
      spread out (weights 5, 1, 1 go ``a a b a c a a``), and none is ever a whole pick ahead.
    - Equal weights: the one chosen longest ago is next. Whoever stays a candidate waits
      for at most one pick of each other, however the others come and go.
    - One that was away is neither owed its missed turns nor flooded when it comes back.
    - A changed weight starts the credits afresh; the rotation notices one when its turn comes.

    Each of the two ways is fair over the picks that it makes, and so is their sum.
    """

    __slots__ = ("_known", "_picks", "_ring", "_seen", "_shares", "_weights", "scored")

    def __init__(self) -> None:
        self.scored: Scored = None  # the credits, in the order of the candidates; None while weights are equal
        self._known: dict[str, _Share] = {}  # bounded by the names of one configuration
        self._picks = 0
        self._seen: Sequence[Candidate] = ()
        self._shares: list[_Share] = []  # in the order of self._seen
        self._weights: list[int] = []  # the same
        self._ring: deque[_Share] = deque()  # the same, chosen longest ago first; empty if weights differ

    def choose(self, candidates: Sequence[C], _request: RouteRequest) -> C:
        # Hot: with equal weights it looks at one candidate only, whatever their number.
        if candidates is not self._seen:
            self._see(candidates)
        ring = self._ring
        while ring:
            share = ring[0]
            chosen = candidates[share.index]
            if chosen.weight == share.weight:
                ring.rotate(-1)
                self._picks = share.last = self._picks + 1
                return chosen
            self._see(candidates)
        return candidates[self._smooth(candidates)]

    def _smooth(self, candidates: Sequence[Candidate]) -> int:
        weights = [candidate.weight for candidate in candidates]
        if weights != self._weights:
            self._see(candidates)
        best = self._shares[0]
        for share in self._shares:
            share.credit += share.weight
            if share.credit > best.credit:
                best = share
        self.scored = [share.credit for share in self._shares] if len(weights) <= MOST_SCORED else ()
        best.credit -= sum(weights)
        self._picks = best.last = self._picks + 1
        return best.index

    def _see(self, candidates: Sequence[Candidate]) -> None:
        """Take the candidates in, with what is known of them."""
        self._shares = [self._place(candidate, index) for index, candidate in enumerate(candidates)]
        self._weights = [share.weight for share in self._shares]
        equal = len(set(self._weights)) == 1
        self.scored = None
        # The sort is stable: those never chosen keep the order of the configuration.
        self._ring = deque(sorted(self._shares, key=lambda share: share.last) if equal else ())
        self._seen = candidates

    def _place(self, candidate: Candidate, index: int) -> _Share:
        share = self._known.setdefault(candidate.name, _Share())
        if share.weight != candidate.weight:
            if share.weight:
                self._forget_credits()  # earned at other rates, it could bar somebody for long
            share.weight = candidate.weight
        share.index = index
        return share

    def _forget_credits(self) -> None:
        for share in self._known.values():
            share.credit = 0


# --- by load ---------------------------------------------------------------------------


class LeastConnections:
    """The least loaded; of several, the first after the one chosen last.

    An idle upstream with unequal weights gives its sessions to the heaviest until that is busy.
    """

    __slots__ = ("_last", "scored")

    def __init__(self) -> None:
        self._last = -1
        self.scored: Scored = None  # the loads, in the order of the candidates

    def choose(self, candidates: Sequence[C], _request: RouteRequest) -> C:
        # load(), without a call for each
        loads = [(c.active + 1) / c.weight for c in candidates]
        self.scored = loads if len(loads) <= MOST_SCORED else ()
        least = min(loads)
        tied = [index for index, its in enumerate(loads) if its == least]
        self._last = next((index for index in tied if index > self._last), tied[0])
        return candidates[self._last]


class PowerOfTwo:
    """The less loaded of two different ones taken at random.

    It spreads nearly as well as the least of all, and workers that don't know of each other's
    sessions don't all run to the same backend.
    """

    __slots__ = ("_rng", "scored")

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self.scored: Scored = None  # the positions of the two, and their loads

    def choose(self, candidates: Sequence[C], _request: RouteRequest) -> C:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        # int(random() * n) costs a fifth of randrange(n), and its bias is below 2**-40 here.
        first = int(self._rng.random() * count)
        second = int(self._rng.random() * (count - 1))
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second]
        its, others = load(one), load(other)
        self.scored = (first, second, its, others)
        return other if others < its else one


class Random:
    """At random, in proportion to the weights."""

    __slots__ = ("_rng",)

    scored: Scored = None

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def choose(self, candidates: Sequence[C], _request: RouteRequest) -> C:
        ends = list(accumulate(c.weight for c in candidates))
        return candidates[bisect(ends, int(self._rng.random() * ends[-1]))]


# --- by client or key ------------------------------------------------------------------


class HashRing:
    """A consistent hash ring over all members.

    Each member owns points on a circle; a key belongs to the first point at or after its
    own whose member is a candidate. So a member that goes away moves its own keys alone, to
    all the others, and gets the same ones back. Points come from names, not from positions:
    all workers and restarts agree.
    """

    __slots__ = ("_owners", "_points", "_positions", "_seen")

    scored: Scored = None  # `first_owner` tells

    def __init__(self, members: Sequence[Candidate]) -> None:
        self._seen: Sequence[Candidate] = ()
        self._positions: dict[str, int] = {}  # of the candidates seen last that are on the ring
        self.rebuild(members)

    def rebuild(self, members: Sequence[Candidate]) -> None:
        """Make the ring anew, after members or weights have changed."""
        each = min(POINTS_PER_WEIGHT, MAX_POINTS / max(1, sum(m.weight for m in members)))
        ring = sorted((point, m.name) for m in members for point in _points(m.name, max(1, int(m.weight * each))))
        self._points = [point for point, _ in ring]
        self._owners = [owner for _, owner in ring]
        self._seen = ()

    def owner(self, key: str, candidates: Sequence[C]) -> C:
        """The candidate to which a key belongs."""
        if candidates is not self._seen:
            self._see(candidates)
        point = _point(key)
        if not self._positions:  # the caller forgot to rebuild: still steady, but not consistent
            return candidates[point % len(candidates)]
        start = bisect_left(self._points, point)
        if start < len(self._owners):  # nearly always the first owner is a candidate
            position = self._positions.get(self._owners[start])
            if position is not None:
                return candidates[position]
        return candidates[self._walk(start)]

    def first_owner(self, key: str) -> str:
        """The name of the member to which a key belongs while that is a candidate."""
        return self._owners[bisect_left(self._points, _point(key)) % len(self._owners)]

    def _walk(self, start: int) -> int:
        """The first candidate forward of `start`; it looks at points / (points of candidates) on average."""
        for index in range(start, start + len(self._owners)):
            position = self._positions.get(self._owners[index % len(self._owners)])
            if position is not None:
                return position
        raise AssertionError("a candidate on the ring has a point")

    def _see(self, candidates: Sequence[Candidate]) -> None:
        members = set(self._owners)
        self._positions = {c.name: index for index, c in enumerate(candidates) if c.name in members}
        self._seen = candidates


class SourceHash(HashRing):
    """A client keeps its backend. Clients of unix sockets have no address and share one point."""

    __slots__ = ()

    def choose(self, candidates: Sequence[C], request: RouteRequest) -> C:
        return self.owner(request.client, candidates)


class KeyHash(HashRing):
    """Requests with the same key go to the same backend; those without one by turns, as HAProxy's `balance hdr`."""

    __slots__ = ("_turns",)

    def __init__(self, members: Sequence[Candidate]) -> None:
        super().__init__(members)
        self._turns = RoundRobin()

    def choose(self, candidates: Sequence[C], request: RouteRequest) -> C:
        return self.owner(request.key, candidates) if request.key else self._turns.choose(candidates, request)


def _point(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=_POINT_BYTES).digest(), "big")


def _points(name: str, count: int) -> Iterator[int]:
    """The first `count` of a member's points; more weight adds points and moves none."""
    for number in range(count):
        piece = number % _POINTS_PER_DIGEST * _POINT_BYTES
        if piece == 0:
            digest = blake2b(f"{name} {number}".encode()).digest()
        yield int.from_bytes(digest[piece : piece + _POINT_BYTES], "big")


# --- by a user's function --------------------------------------------------------------


class PythonPolicy:
    """A user's ``choose(candidates, request)``, held to the law that it returns one of the candidates."""

    __slots__ = ("_choice", "_name")

    scored: Scored = None

    def __init__(self, choice: PythonChoice, name: str = "") -> None:
        self._choice = choice
        self._name = name or getattr(choice, "__qualname__", repr(choice))

    def choose(self, candidates: Sequence[C], request: RouteRequest) -> C:
        """PolicyError when the function raises, or returns anything but a candidate."""
        try:
            chosen = self._choice(candidates, request)
        except Exception as error:
            raise PolicyError(f"policy {self._name} raised {type(error).__name__}: {error}") from error
        for candidate in candidates:
            if candidate is chosen:
                return candidate
        raise PolicyError(f"policy {self._name} returned {chosen!r}, which is not one of the candidates")
