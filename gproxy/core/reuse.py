"""Whether a connection may be lent again: one verdict, with its reason.

Closed by default: only `None`, the absence of a reason against it, lets a connection live on.
"""

from __future__ import annotations

from dataclasses import dataclass

from gproxy.core.settings import PoolSettings


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


def expired(settings: PoolSettings, age: float, idle: float, uses: int) -> str | None:
    """Why an idle connection may be lent no more: its `age` and `idle` time in seconds, its `uses` so far."""
    if idle >= settings.idle_timeout:
        return "idle too long"
    if age >= settings.max_age:
        return "too old"
    if uses >= settings.max_uses:
        return "used up"
    return None
