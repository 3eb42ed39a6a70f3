"""Router: for each session, who could serve it, who could not and why, and who does.

    standing (shared, cached) ─▶ less those tried and full ─▶ policy ─▶ Decision

A decision is data: it is what `gproxy explain` and the dashboard show (stories.py keeps it), and what a
test asserts. Nothing here yields.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from gproxy.core.balance import PolicyError, RoundRobin, RouteRequest, Scored
from gproxy.upstream import Backend, Exclusion, Standing, Upstream

log = logging.getLogger("gproxy.router")


@dataclass(slots=True)
class Decision:
    """One choice. `backend` is None where nobody could serve; `queued` when somebody could, later."""

    at: float  # monotonic seconds
    upstream: str
    request: RouteRequest
    candidates: tuple[Backend, ...]  # in the order of the configuration
    excluded: tuple[tuple[str, str], ...]  # (backend, reason)
    backend: Backend | None
    queued: bool = False
    scored: Scored = None  # what the policy has looked at, where it was asked


# What a plain decision is kept as: `decision_of` makes a Decision of it when somebody looks.
Picked = tuple[float, Upstream, RouteRequest, Standing, Backend, Scored]


class Router:
    """Chooses backends."""

    def __init__(self) -> None:
        self._fallback: dict[str, RoundRobin] = {}
        self._reported: dict[str, str] = {}

    def pick(self, upstream: Upstream, request: RouteRequest, now: float) -> Picked | None:
        """As `route`, for the plain case: somebody can serve, without limits. None leaves it to `route`."""
        standing = upstream.standing(now)
        candidates = standing.plain
        if not candidates or request.sticky:
            return None
        try:
            backend = upstream.policy.choose(candidates, request) if len(candidates) > 1 else candidates[0]
        except PolicyError:
            return None  # `route` will say so
        backend.pool.borrowed += 1
        return now, upstream, request, standing, backend, upstream.policy.scored

    def route(self, upstream: Upstream, request: RouteRequest, tried: Sequence[Backend] = ()) -> Decision:
        """Choose for one session and reserve the connection slot: the caller owes its release."""
        now = upstream.clock()
        standing = upstream.standing(now)
        decision = _narrow(upstream, standing, request, tried, now)
        if decision.candidates:
            decision.backend, decision.scored = self._choose(upstream, decision.candidates, request)
            decision.backend.pool.reserve()
        return decision

    def _choose(
        self, upstream: Upstream, candidates: tuple[Backend, ...], request: RouteRequest
    ) -> tuple[Backend, Scored]:
        if request.sticky:
            for backend in candidates:
                if backend.name == request.sticky:
                    return backend, None
        try:
            return upstream.policy.choose(candidates, request), upstream.policy.scored
        except PolicyError as error:
            self._report(upstream, str(error))
            fallback = self._fallback.setdefault(upstream.name, RoundRobin())
            return fallback.choose(candidates, request), str(error)

    def _report(self, upstream: Upstream, message: str) -> None:
        """One line for each new thing wrong with a user's policy."""
        if self._reported.get(upstream.name) != message:
            self._reported[upstream.name] = message
            log.error("upstream %s: %s; round robin is used instead", upstream.name, message)


def decision_of(choice: Decision | Picked) -> Decision:
    if isinstance(choice, Decision):
        return choice
    at, upstream, request, standing, backend, scored = choice
    excluded = standing.excluded_and_backups
    return Decision(at, upstream.name, request, standing.candidates, excluded, backend, scored=scored)


def _narrow(
    upstream: Upstream, standing: Standing, request: RouteRequest, tried: Sequence[Backend], now: float
) -> Decision:
    """The careful way: limits, earlier tries and backups."""
    excluded = list(standing.excluded)
    willing = _untried(standing.candidates, tried, excluded)
    if willing:
        excluded += [(b.name, Exclusion.BACKUP.value) for b in standing.backups]
    else:
        willing = _untried(standing.backups, tried, excluded)
    full = [b for b in willing if b.pool.full]
    excluded += [(b.name, Exclusion.FULL.value) for b in full]
    free = tuple(b for b in willing if b not in full) if full else willing
    return Decision(now, upstream.name, request, free, tuple(excluded), None, queued=bool(willing and not free))


def _untried(
    backends: tuple[Backend, ...], tried: Sequence[Backend], excluded: list[tuple[str, str]]
) -> tuple[Backend, ...]:
    """Those not tried yet; the same tuple where that is all of them, which spares policies their work."""
    if not any(b in tried for b in backends):
        return backends
    excluded += [(b.name, Exclusion.TRIED.value) for b in backends if b in tried]
    return tuple(b for b in backends if b not in tried)
