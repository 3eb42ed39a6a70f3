"""What goes back to a client of the API: an Answer, or an ApiError that becomes one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

JSON: Final = "application/json"


class Streamed(Protocol):
    """A body that comes bit by bit."""

    patience: Any  # the time that the client has left

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    stream: Streamed | None = None  # in the place of the body, for as long as the client likes

    @property
    def status_line(self) -> str:
        return f"{self.status} {HTTPStatus(self.status).phrase}"


def document(found: Any, status: int = 200) -> Answer:
    """Something as JSON."""
    return Answer(status, json.dumps(found, separators=(",", ":")).encode() + b"\n")


@dataclass(eq=False)
class ApiError(Exception):
    """A request that is not granted. The message is for people, and shows no secret."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = field(default=())

    def answer(self) -> Answer:
        body = document({"error": self.message}, self.status).body
        return Answer(self.status, body, headers=self.headers)


def whole_number(name: str, text: str, least: int, most: int) -> int:
    """A parameter's. ApiError 400."""
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise ApiError(400, f"{name} must be a whole number from {least} to {most}")
