"""Errands: what the master passes on between the steward and the workers of a configuration.

    steward ── "tell" ──▶ master ──▶ all workers, those that drain, too
            ── "ask" ───▶        ──▶ the workers of its own configuration ── "answer" ──▶ master ──▶ steward

The steward meets the network, and the master may be root: it passes on nothing but what stands in the tables here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from gproxy.channel import Message
from gproxy.generation import STEWARD, Child, Generation

_ORDERS: Final = frozenset({"eject", "readmit", "empty", "log"})
_LEVELS: Final = frozenset({"debug", "info", "warning", "error"})


def pass_on(message: Message, sender: Child, generations: Sequence[Generation]) -> None:
    """What a child has said that is for others."""
    own = next((each for each in generations if sender in each.children.values()), None)
    if own is None:
        return
    if sender.slot != STEWARD:
        if message["said"] == "answer" and own.steward is not None:
            own.steward.channel.send(do="answered", id=message["id"], answer=message["answer"])
    elif message["said"] == "ask":
        own.tell(**{**message["question"], "do": "ask", "id": message["id"]})
    elif message["said"] == "tell":
        _tell(message["order"], generations)


def _tell(order: dict[str, Any], generations: Sequence[Generation]) -> None:
    if order["do"] not in _ORDERS:
        return
    if order["do"] == "log":
        _change_level(order["level"], generations)
    for generation in generations:
        generation.tell(**order)


def _change_level(level: str, generations: Sequence[Generation]) -> None:
    """Ours, and that of processes that are still to come."""
    if level not in _LEVELS:
        return
    logging.getLogger("gproxy").setLevel(level.upper())
    for generation in generations:
        generation.config = replace(generation.config, log=replace(generation.config.log, level=level))
