"""A forked child: for what would change this process for good, such as its user."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_child(work: Callable[[], T]) -> T:
    """What `work` returns, or raises, in a child of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    good, result = pickle.loads(answer)
    if good:
        return result  # type: ignore[no-any-return]
    raise result


def _answer(work: Callable[[], object], writer: int) -> None:
    """Never returns: the child must not go on with the tests."""
    try:
        try:
            answer = pickle.dumps((True, work()))
        except BaseException as error:  # noqa: BLE001 - raised again in the parent
            answer = pickle.dumps((False, error))
        os.write(writer, answer)
    finally:
        os._exit(0)
