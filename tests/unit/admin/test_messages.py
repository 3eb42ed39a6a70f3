"""What travels between the steward, the master and the workers."""

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace

import gevent
import pytest

from gproxy import errands, orders
from gproxy.admin import questions
from gproxy.admin.decisions import decisions_document
from gproxy.admin.questions import Questions
from gproxy.core.balance import RouteRequest
from gproxy.core.settings import LogSettings
from gproxy.generation import STEWARD
from gproxy.router import Decision


class Process:
    """A child, with what it was sent."""

    def __init__(self, slot):
        self.slot = slot
        self.sent = []
        self.channel = SimpleNamespace(send=lambda **message: self.sent.append(message))


@dataclass(frozen=True)
class FakeConfig:
    log: LogSettings = field(default_factory=LogSettings)


class Processes:
    """A generation of two workers."""

    def __init__(self):
        self.children = {slot: Process(slot) for slot in (STEWARD, 0, 1)}
        self.steward = self.children[STEWARD]
        self.config = FakeConfig()

    def workers(self):
        return [self.children[0], self.children[1]]

    def tell(self, **message):
        for worker in self.workers():
            worker.channel.send(**message)

    def heard(self):
        return [self.children[slot].sent for slot in (0, 1, STEWARD)]


@pytest.fixture
def current():
    return Processes()


@pytest.fixture
def draining():
    return Processes()


def test_an_order_is_for_all_workers(current, draining):
    order = {"do": "eject", "upstream": "app", "backend": "b1", "seconds": 5}
    errands.pass_on({"said": "tell", "order": order}, current.steward, [current, draining])
    assert current.heard() == draining.heard() == [[order], [order], []]


@pytest.mark.parametrize("do", ["drain", "stop", "serve", "reopen", "ask", "nonsense"])
def test_the_master_passes_on_nothing_else(current, do):
    errands.pass_on({"said": "tell", "order": {"do": do, "timeout": 0}}, current.steward, [current])
    assert current.heard() == [[], [], []]


def test_a_worker_gives_no_orders(current):
    worker = current.children[0]
    errands.pass_on({"said": "tell", "order": {"do": "empty"}}, worker, [current])
    errands.pass_on({"said": "ask", "id": 1, "question": {"ask": "decisions"}}, worker, [current])
    assert current.heard() == [[], [], []]


def test_a_question_is_for_the_stewards_own_workers_and_so_is_the_answer(current, draining):
    question = {"ask": "decisions", "last": 2, "do": "stop"}
    errands.pass_on({"said": "ask", "id": 7, "question": question}, current.steward, [current, draining])
    assert current.heard() == [[{"do": "ask", "id": 7, "ask": "decisions", "last": 2}]] * 2 + [[]]
    assert draining.heard() == [[], [], []]

    errands.pass_on({"said": "answer", "id": 7, "answer": [1]}, current.children[1], [current, draining])
    assert current.steward.sent == [{"do": "answered", "id": 7, "answer": [1]}]
    assert draining.steward.sent == []


def test_who_is_gone_is_not_heard(current):
    errands.pass_on({"said": "tell", "order": {"do": "empty"}}, Process(STEWARD), [current])
    assert current.heard() == [[], [], []]


def test_a_log_level_is_the_masters_too_and_that_of_processes_to_come(current):
    logger = logging.getLogger("gproxy")
    before = logger.level
    try:
        errands.pass_on({"said": "tell", "order": {"do": "log", "level": "error"}}, current.steward, [current])
        assert (logger.level, current.config.log.level) == (logging.ERROR, "error")
    finally:
        logger.setLevel(before)


def test_all_answers_end_the_wait(monkeypatch):
    monkeypatch.setattr(questions, "DEADLINE", 3600)
    asked = []
    mine = Questions(lambda **message: asked.append(message) or True)
    waiting = gevent.spawn(mine.ask, 2, ask="decisions", last=1)
    gevent.sleep(0)
    [message] = asked
    assert (message["said"], message["question"]) == ("ask", {"ask": "decisions", "last": 1})
    mine.answered(message["id"], ["one"])
    mine.answered(message["id"] + 1, ["to another question"])
    mine.answered(message["id"], ["two"])
    assert waiting.get(timeout=10) == [["one"], ["two"]]
    mine.answered(message["id"], ["too late"])


def test_the_deadline_ends_it_too(monkeypatch):
    monkeypatch.setattr(questions, "DEADLINE", 0.01)
    assert Questions(lambda **_: True).ask(2) == []


def decision(at, client="10.0.0.1"):
    backend = SimpleNamespace(name="b1")
    request = RouteRequest(client, "web")
    return Decision(at, "app", request, (backend,), (("b2", "down"),), backend)


def test_decisions_are_documents():
    found = decisions_document([decision(3.0), decision(2.0)], 1, 4.5)
    assert [entry["ago"] for entry in found] == [1.5, 2.5]
    assert found[0] | {"ago": 0} == {
        "worker": 1, "ago": 0, "upstream": "app", "listener": "web", "client": "10.0.0.1", "key": "", "sticky": "",
        "candidates": ["b1"], "excluded": [{"backend": "b2", "reason": "down"}], "backend": "b1", "queued": False,
    }  # fmt: skip


def test_decisions_fit_a_message():
    found = decisions_document([decision(n, "x" * 20_000) for n in range(10)], 0, 10.0)
    assert len(found) == 2


def test_what_a_worker_does_not_know_is_not_for_it():
    worker = SimpleNamespace(upstreams={"app": SimpleNamespace(backends=[])})
    for upstream in ("app", "gone"):
        orders.carry_out(worker, {"do": "empty", "upstream": upstream, "backend": "b1"})
