"""Waiting for what gproxy was asked: looks at the API until it has come, or a time is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from gproxy.ctl.client import TIMEOUT, Client, Unreachable
from gproxy.errors import AdminError

T = TypeVar("T")
Document = dict[str, Any]

_STEP: Final = 0.25  # seconds between looks
_SETTLED: Final = 2.0  # seconds without a connection: what the API tells is up to a second and some old


class Wait:
    """For so many seconds at most. `clock` and `pause` are for tests."""

    def __init__(
        self,
        client: Client,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ):
        self._client = client
        self._seconds = seconds
        self._deadline = clock() + seconds
        self._clock = clock
        self._pause = pause
        self._told = ""

    def until_idle(self, name: object, path: str, administrative: str) -> Document:
        """A backend has no connection in use; its document then. AdminError."""
        idle_since: float | None = None
        found: Document = {"active": "some"}

        def look() -> Document | None:
            nonlocal idle_since, found
            found = self._client.get(path)
            if found["administrative"] != administrative:
                raise AdminError(f"{name} is {found['administrative']} now: somebody else has changed it")
            self._tell(f"{name}: connections in use: {found['active']}")
            if found["active"]:
                idle_since = None
            elif idle_since is None:
                idle_since = self._clock()
            return found if idle_since is not None and self._clock() - idle_since >= _SETTLED else None

        return self._until(look, lambda: f"{name}: connections in use: {found['active']}, still {administrative}")

    def until_reloaded(self, before: Document) -> Document:
        """The reload that was asked for after the state `before` is over; the state then. AdminError if it failed."""

        def look() -> Document | None:
            state: Document = self._client.get("/v1/state")
            if state["master"] != before["master"]:
                raise AdminError(f"another gproxy, process {state['master']}, answers now: it has been replaced")
            if state["ending"]:
                raise AdminError("gproxy is about to stop, and reloads no more")
            reload = state["reload"]
            if number_of(reload) <= number_of(before["reload"]) or reload["outcome"] == "running":
                return None
            if reload["outcome"] == "failed":
                raise AdminError(f"the reload has failed; generation {state['generation']} goes on: {reload['why']}")
            return state

        return self._until(look, lambda: "the reload is not over")

    def _until(self, look: Callable[[], T | None], still: Callable[[], str]) -> T:
        """What `look` returns once it returns something. Somebody else may take over the API meanwhile."""
        trouble = ""
        while (left := self._deadline - self._clock()) > 0:
            self._client.timeout = min(TIMEOUT, left)
            try:
                if (found := look()) is not None:
                    return found
                trouble = ""
            except Unreachable as error:
                if error.nobody:
                    raise AdminError(f"{error}: it has ended, or has its admin API elsewhere now") from None
                trouble = f"; {error}"
            self._pause(_STEP)
        raise AdminError(f"not within {self._seconds:g} s: {still()}{trouble}")

    def _tell(self, text: str) -> None:
        """Somebody who looks on sees that it goes on."""
        if text != self._told and sys.stderr.isatty():
            print(text, file=sys.stderr)
        self._told = text


def number_of(reload: Document | None) -> int:
    """Of the last reload; 0 where none was."""
    return int(reload["number"]) if reload else 0
