"""What operators ask of one worker, by way of the steward and the master (channel.py has the messages)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gevent import get_hub

from gproxy.admin.decisions import decisions_document
from gproxy.admin.processes import process_document
from gproxy.admin.stories import Wanted, stories_document
from gproxy.channel import Message
from gproxy.upstream import Backend
from gproxy.worker import Worker


def carry_out(worker: Worker, order: Message) -> None:
    """An order about a backend, or the log. What an older configuration does not know is not for it."""
    if order["do"] == "log":
        logging.getLogger("gproxy").setLevel(order["level"].upper())
        return
    backend = _backend(worker, order["upstream"], order["backend"])
    if backend is None:
        return
    match order["do"]:
        case "eject":
            backend.eject(order["seconds"])
        case "readmit":
            backend.readmit()
        case "empty":
            backend.empty_pool()


def reply(worker: Worker, slot: int, question: Message, say: Callable[..., object]) -> None:
    """In the hub: tell the master what the worker in a slot says to a question, once all that is due has run.

    In between, watchers would be missing that are as good as active: a timer that is due has stopped, and its greenlet
    is still to start the next one.
    """
    get_hub().loop.run_callback(lambda: say(said="answer", id=question["id"], answer=_answer(worker, slot, question)))


def _answer(worker: Worker, slot: int, question: Message) -> Any:
    if question["ask"] == "process":
        return [process_document(f"worker{slot}", len(worker.sessions), worker.resting)]
    now = time.monotonic()
    if question["ask"] == "decisions":
        return decisions_document(worker.decisions(question["last"]), slot, now)
    wanted = Wanted(question["last"], question["request_id"], question["client"], question["failed"])
    return stories_document(worker.traces(), wanted, slot, now)


def _backend(worker: Worker, upstream: str, name: str) -> Backend | None:
    if upstream not in worker.upstreams:
        return None
    return next((backend for backend in worker.upstreams[upstream].backends if backend.name == name), None)
