"""Routing as data: who could serve, who could not and why, and who does."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gproxy.core.balance import PythonPolicy, RouteRequest
from gproxy.core.health import Administrative
from gproxy.errors import DialError
from gproxy.router import Decision, Router
from gproxy.upstream import Backend, Upstream
from tests.support.clock import FakeClock
from tests.support.upstreams import make_upstream

REQUEST = RouteRequest("192.0.2.1", "web")


@pytest.fixture
def router() -> Router:
    return Router()


def names(backends: Any) -> list[str]:
    return [backend.name for backend in backends]


def observe(upstream: Upstream, backend: Backend, *, up: bool) -> None:
    """The checks say so, as often as it takes."""
    settings = upstream.settings.health_check
    for _ in range(settings.fall + settings.rise):
        if backend.health.observe(up, settings.rise, settings.fall):
            upstream.flipped(backend, "a check")


def fail_dials(backend: Backend, count: int) -> None:
    for _ in range(count):
        with pytest.raises(DialError):
            backend.dial()


# --- the choice ----------------------------------------------------------------------------


def test_by_turns(router: Router) -> None:
    upstream = make_upstream("", "", "")
    chosen = [router.route(upstream, REQUEST).backend for _ in range(6)]
    assert names(chosen) == ["b1", "b2", "b3"] * 2


def test_a_decision_says_all_of_it(router: Router) -> None:
    clock = FakeClock(1234.0)
    upstream = make_upstream("", "", clock=clock)
    b1, b2 = upstream.backends
    assert router.route(upstream, REQUEST) == Decision(
        at=1234.0, upstream="app", request=REQUEST, candidates=(b1, b2), excluded=(), backend=b1, queued=False
    )


def test_a_choice_takes_a_slot(router: Router) -> None:
    upstream = make_upstream("")
    router.route(upstream, REQUEST)
    assert upstream.backends[0].active == upstream.active == 1


def test_the_policy_sees_only_those_who_can_serve(router: Router) -> None:
    upstream = make_upstream("", "", "")
    seen: list[list[str]] = []

    def choose(candidates: Any, _request: RouteRequest) -> Any:
        seen.append(names(candidates))
        return candidates[-1]

    upstream.policy = PythonPolicy(choose)
    observe(upstream, upstream.backends[1], up=False)
    decision = router.route(upstream, REQUEST)
    assert seen == [["b1", "b3"]]
    assert decision.backend is upstream.backends[2]


# --- exclusions ------------------------------------------------------------------------------


def exclude_down(upstream: Upstream, backend: Backend) -> None:
    observe(upstream, backend, up=False)


def exclude_drain(_upstream: Upstream, backend: Backend) -> None:
    backend.set_administrative(Administrative.DRAIN)


def exclude_maint(_upstream: Upstream, backend: Backend) -> None:
    backend.set_administrative(Administrative.MAINT)


def exclude_ejected(_upstream: Upstream, backend: Backend) -> None:
    fail_dials(backend, 3)


def exclude_unresolved(upstream: Upstream, backend: Backend) -> None:
    backend.endpoints = ()
    upstream.changed(backend)


@pytest.mark.parametrize(
    ("exclude", "reason"),
    [
        (exclude_down, "down"),
        (exclude_drain, "draining"),
        (exclude_maint, "in maintenance"),
        (exclude_ejected, "ejected after failures"),
        (exclude_unresolved, "its host name has no address yet"),
    ],
)
def test_who_cannot_serve_and_why(router: Router, exclude: Any, reason: str) -> None:
    upstream = make_upstream("", "")
    first, second = upstream.backends
    assert router.route(upstream, REQUEST).backend is first  # what was worked out before does not last
    exclude(upstream, first)
    for _ in range(3):
        decision = router.route(upstream, REQUEST)
        assert (decision.backend, decision.excluded) == (second, (("b1", reason),))
        assert decision.candidates == (second,)


def test_a_backup_that_is_not_needed(router: Router) -> None:
    upstream = make_upstream("", "backup: true", "")
    exclude_maint(upstream, upstream.backends[2])
    decision = router.route(upstream, REQUEST)
    assert names(decision.candidates) == ["b1"]
    assert sorted(decision.excluded) == [("b2", "a backup, and others can serve"), ("b3", "in maintenance")]


def test_one_at_its_limit(router: Router) -> None:
    upstream = make_upstream("max_connections: 1", "")
    assert router.route(upstream, REQUEST).backend is upstream.backends[0]
    decision = router.route(upstream, REQUEST)
    assert (decision.backend, decision.excluded) == (upstream.backends[1], (("b1", "at its connection limit"),))
    upstream.backends[0].pool.release(None)
    assert names(router.route(upstream, REQUEST).candidates) == ["b1", "b2"]


def test_those_that_were_tried(router: Router) -> None:
    upstream = make_upstream("", "", "")
    first, second, third = upstream.backends
    decision = router.route(upstream, REQUEST, (first, third))
    assert decision.backend is second
    assert decision.excluded == (("b1", "tried already"), ("b3", "tried already"))


def test_all_have_been_tried(router: Router) -> None:
    upstream = make_upstream("", "")
    decision = router.route(upstream, REQUEST, upstream.backends)
    assert decision.backend is None
    assert not decision.queued
    assert decision.candidates == ()


def test_nobody_can_serve(router: Router) -> None:
    upstream = make_upstream("", "")
    observe(upstream, upstream.backends[0], up=False)
    upstream.backends[1].set_administrative(Administrative.MAINT)
    decision = router.route(upstream, REQUEST)
    assert decision.backend is None
    assert not decision.queued
    assert decision.excluded == (("b1", "down"), ("b2", "in maintenance"))


def test_an_operator_s_word_comes_before_the_checks_(router: Router) -> None:
    upstream = make_upstream("", "")
    observe(upstream, upstream.backends[0], up=False)
    upstream.backends[0].set_administrative(Administrative.DRAIN)
    assert router.route(upstream, REQUEST).excluded == (("b1", "draining"),)


# --- backups -----------------------------------------------------------------------------


def test_a_backup_waits(router: Router) -> None:
    upstream = make_upstream("", "backup: true")
    for _ in range(3):
        assert router.route(upstream, REQUEST).backend is upstream.backends[0]


def test_a_backup_serves_when_nobody_else_can(router: Router) -> None:
    upstream = make_upstream("", "backup: true", "backup: true")
    observe(upstream, upstream.backends[0], up=False)
    chosen = [router.route(upstream, REQUEST).backend for _ in range(4)]
    assert names(chosen) == ["b2", "b3"] * 2
    observe(upstream, upstream.backends[0], up=True)
    assert router.route(upstream, REQUEST).backend is upstream.backends[0]


def test_a_backup_serves_when_all_others_were_tried(router: Router) -> None:
    upstream = make_upstream("", "backup: true")
    decision = router.route(upstream, REQUEST, (upstream.backends[0],))
    assert decision.backend is upstream.backends[1]
    assert decision.excluded == (("b1", "tried already"),)


def test_a_backup_that_waits_is_listed_where_others_are_looked_at_closely(router: Router) -> None:
    upstream = make_upstream("max_connections: 5", "backup: true")
    assert router.route(upstream, REQUEST).excluded == (("b2", "a backup, and others can serve"),)


def test_a_backup_does_not_serve_because_the_others_are_busy(router: Router) -> None:
    upstream = make_upstream("max_connections: 1", "backup: true")
    router.route(upstream, REQUEST)
    decision = router.route(upstream, REQUEST)
    assert decision.backend is None
    assert decision.queued


# --- the queue --------------------------------------------------------------------------------


def test_when_all_are_at_their_limit_the_session_may_wait(router: Router) -> None:
    upstream = make_upstream("max_connections: 1", "max_connections: 1")
    assert {router.route(upstream, REQUEST).backend for _ in range(2)} == set(upstream.backends)
    decision = router.route(upstream, REQUEST)
    assert (decision.backend, decision.queued) == (None, True)
    assert decision.excluded == (("b1", "at its connection limit"), ("b2", "at its connection limit"))


# --- a policy that fails -----------------------------------------------------------------------


def test_a_policy_that_fails_is_replaced_by_round_robin_and_reported_once(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = make_upstream("", "")

    def broken(_candidates: Any, _request: RouteRequest) -> Any:
        raise ZeroDivisionError("division by zero")

    upstream.policy = PythonPolicy(broken, "mine:choose")
    assert names(router.route(upstream, REQUEST).backend for _ in range(4)) == ["b1", "b2", "b1", "b2"]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.ERROR,
            "upstream app: policy mine:choose raised ZeroDivisionError: division by zero; round robin is used instead",
        )
    ]


def test_each_new_defect_of_a_policy_is_reported(router: Router, caplog: pytest.LogCaptureFixture) -> None:
    upstream = make_upstream("", "")
    answers = [None, None, "b1", "b1"]
    upstream.policy = PythonPolicy(lambda _candidates, _request: answers.pop(0), "mine:choose")
    for _ in range(4):
        assert router.route(upstream, REQUEST).backend
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "upstream app: policy mine:choose returned None, which is not one of the candidates",
        "upstream app: policy mine:choose returned 'b1', which is not one of the candidates",
    ]
