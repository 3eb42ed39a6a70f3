"""Whether a connection may be lent again: one verdict, with its reason.

Closed by default: only `None`, the absence of a reason against it, lets a connection live on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class QuietEnd:
    """What is known of a backend's connection when its client has sent FIN."""

    held_up: int  # bytes of the client's that the backend's kernel has not been handed
    held_down: int  # bytes of the backend's that the client has not been handed
    unacknowledged: int  # bytes handed to our kernel that the backend's has not confirmed
    answered: bool  # the backend had the last word
    backend_fin: bool


def quiescent_objection(end: QuietEnd) -> str | None:
    """Why a connection may not be shared under `quiescent`; None when it may, once it stays silent.

    A request without its answer is an objection too: the answer would reach the next client.
    """
    if end.backend_fin:
        return "the backend has ended it"
    if end.held_up or end.held_down:
        return "bytes are still on their way through gproxy"
    if end.unacknowledged:
        return "the backend has not confirmed every byte"
    if not end.answered:
        return "the client's last bytes have no answer yet"
    return None


class ExchangeEnd(NamedTuple):
    """What is known of a backend's connection when an exchange is over. One is made for every request: a tuple."""

    response_done: bool  # it ended exactly at its framing
    request_done: bool  # all of it was sent
    leftover: bool  # bytes came after the response
    backend_keeps: bool  # the response allows another one
    until_close: bool  # the response's body was delimited by the connection's end
    upgraded: bool  # the connection speaks another protocol now


def safe_objection(end: ExchangeEnd) -> str | None:
    """Why a connection may not carry another request under `safe`; None when it may."""
    if end.upgraded:
        return "it was upgraded"
    if end.until_close:
        return "its end was the response's end"
    if not end.response_done:
        return "the response is not complete"
    if not end.request_done:
        return "the request was not sent whole"
    if end.leftover:
        return "bytes came after the response"
    if not end.backend_keeps:
        return "the backend wants to close it"
    return None
