"""Every error that gproxy raises on purpose.

An error of the data path knows its side, its phase and whether another backend may be
tried, so that a session never has to guess from an errno.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class GproxyError(Exception):
    """The base of them all."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a configuration: its line (from 1, 0 where there is none), key path and message."""

    line: int
    path: str
    message: str


class ConfigError(GproxyError):
    """A configuration that can't be used, with all of its problems at once."""

    def __init__(self, source: str, problems: list[Problem]):
        self.source = source
        self.problems = sorted(problems)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """``file:line: key.path: message``, one line a problem."""
        return [
            f"{self.source}:{p.line}: " + (f"{p.path}: " if p.path else "") + p.message
            if p.line
            else f"{self.source}: {p.message}"
            for p in self.problems
        ]


class StartFailed(GproxyError):
    """The workers could not start. The text is for people, as it is; `status` is the process's."""

    def __init__(self, text: str, status: int):
        self.status = status
        super().__init__(text)


class AdminError(GproxyError):
    """The admin API of a gproxy that runs can't be reached, or does not do what it is asked."""


class BindError(GproxyError):
    """A listener's address can't be had: in use, not ours, not permitted."""


class PrivilegeError(GproxyError):
    """A process can't become the user that it should run as."""


class PidFileError(GproxyError):
    """The pid file can't be written."""


class InheritedSocketError(GproxyError):
    """A socket that was handed to us is not one that we can listen on."""


class DialFailure(Enum):
    """Why a dial failed. RESOURCES and NO_ADDRESS are our own fault and say nothing of the backend.

    RESOURCES hits every dial, whomever to; NO_ADDRESS those to one address: its source ports
    are used up, or we have no address of its family.
    """

    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNRESOLVED = "unresolved"
    RESOURCES = "resources"
    NO_ADDRESS = "no address"


class DialError(GproxyError):
    """A backend could not be connected to. Nothing was sent, so another may always be tried."""

    side = "backend"
    phase = "connect"
    retryable = True

    def __init__(self, failure: DialFailure, message: str):
        self.failure = failure
        super().__init__(message)


class QueueTimeout(GproxyError):
    """No connection slot of any backend came free in time."""

    side = "proxy"
    phase = "queue"
    retryable = False
