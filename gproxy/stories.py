"""Stories: what became of the last sessions and exchanges, for `gproxy explain`.

    Search walks a Course ─▶ what was at hand when the session or exchange ended, kept ─▶ Trace ─▶ document

Traces and documents (admin/stories.py) are made when somebody looks, so that what nobody looks at costs little: plain
exchanges (http/plain.py) and tcp sessions are kept as bare tuples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import nlargest
from typing import Any, NamedTuple

from gproxy.core.balance import RouteRequest, Scored
from gproxy.core.settings import Mode
from gproxy.core.termination import Ended
from gproxy.net.connection import format_sockaddr
from gproxy.net.pool import Missed
from gproxy.router import Decision, Picked, decision_of
from gproxy.upstream import Backend, Standing, Upstream

KEPT = 1000
LONGEST_TARGET = 8 * 1024  # bytes that are kept of a request's target

# A plain exchange when its backend is chosen: a Picked, and the request's method, target and id.
PlainChoice = tuple[float, Upstream, RouteRequest, Standing, Backend, Scored, bytes, bytes, bytes]
# When it is over: bytes in, bytes out, status; when it was answered and when it ended; the client's address; of the
# connection how often it was used and since when it was idle.
Plain = tuple[int, int, int, float, float, Any, int, float, PlainChoice]


class Try(NamedTuple):
    """One choice of a backend, and what came of it."""

    decision: Decision
    missed: Missed | None  # why no idle connection served, where one was there
    uses: int  # of the connection, this one included; 0 where it got none
    idle: float | None  # for how many seconds the connection had been; None where it was dialled for this
    failure: str  # why it came to nothing, for people; empty where it did not, or the termination code says it


class Course:
    """How the search for a backend has gone so far."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.backend: Backend | None = None
        self.tried: tuple[Backend, ...] = ()
        self.retries = 0
        self.routed_at: float | None = None
        self.connected_at: float | None = None
        self.choice: Decision | Picked | None = None  # the last one
        self.missed: Missed | None = None
        self.uses = 0
        self.idle: float | None = None
        self.failure = ""
        self.earlier: tuple[Try, ...] = ()

    @property
    def tries(self) -> tuple[Try, ...]:
        if self.choice is None:
            return self.earlier
        return (*self.earlier, Try(decision_of(self.choice), self.missed, self.uses, self.idle, self.failure))

    @property
    def choices(self) -> list[Decision | Picked]:
        """Of all tries."""
        earlier: list[Decision | Picked] = [each.decision for each in self.earlier]
        return earlier if self.choice is None else [*earlier, self.choice]

    def choose_again(self) -> None:
        """The choice came to nothing."""
        self.earlier = self.tries
        self.choice = self.missed = self.idle = None
        self.uses, self.failure = 0, ""


class Timers(NamedTuple):
    """Seconds, as in the access log; None where that was never reached."""

    tw: float | None  # waiting for a backend
    tc: float | None  # connecting to it
    tresp: float | None  # http: its answer


def timers(course: Course | None, read_at: float, answered: float | None) -> Timers:
    """`read_at`: when the search began."""
    if course is None or course.routed_at is None:
        return Timers(None, None, None)
    routed, connected = course.routed_at, course.connected_at
    if connected is None:
        return Timers(routed - read_at, None, None)
    return Timers(routed - read_at, connected - routed, None if answered is None else answered - connected)


class Trace(NamedTuple):
    """What is left of a session (tcp) or exchange (http). Times are monotonic seconds."""

    mode: Mode
    peer: Any  # the client, as the socket module has it
    listener: str
    course: Course | None  # None where it was never routed
    began: float
    ended: float | None  # None: it is under way
    bytes_in: int
    bytes_out: int
    code: Ended | None  # None: it is under way
    # http alone; the bytes are as they came, empty where they were never read
    read_at: float | None = None
    answered: float | None = None
    status: int = 0
    method: bytes = b""
    target: bytes = b""
    version: bytes = b""
    request_id: bytes = b""
    told: str = ""  # why, in an answer of gproxy's own

    @property
    def client(self) -> str:
        return format_sockaddr(self.peer)

    @property
    def latest(self) -> float:
        """When it ended, or began where it is under way."""
        return self.began if self.ended is None else self.ended

    @property
    def timers(self) -> Timers:
        return timers(self.course, self.began if self.read_at is None else self.read_at, self.answered)

    @property
    def tries(self) -> tuple[Try, ...]:
        return self.course.tries if self.course is not None else ()

    @property
    def went_wrong(self) -> bool:
        """Whether it ended badly, or did not go well at once: a backend failed it, or it had to wait."""
        badly = self.code not in (None, Ended.NORMAL) or self.status >= 500
        return badly or (self.course is not None and bool(self.course.earlier))

    def is_of(self, client: str) -> bool:
        """Whether `client` is its address, with the port or without."""
        return client in (self.client, self.peer[0] if isinstance(self.peer, tuple) else "")


def plain_trace(peer: Any, choice: PlainChoice) -> Trace:
    """Of a plain exchange that is under way."""
    began, _, request, _, _, _, method, target, request_id = choice
    return Trace(
        Mode.HTTP, peer, request.listener, _plain_course(choice), began, None, 0, 0, None,
        began, None, 0, method, target, b"HTTP/1.1", request_id,
    )  # fmt: skip


def _plain_course(choice: PlainChoice) -> Course:
    began, upstream, _, _, backend, *_ = choice
    course = Course(upstream)
    course.backend, course.choice = backend, choice[:6]
    course.routed_at = course.connected_at = began
    return course


def _plain_over(plain: Plain) -> Trace:
    bytes_in, bytes_out, status, answered, ended, peer, uses, idle_since, choice = plain
    began, _, request, _, _, _, method, target, request_id = choice
    course = _plain_course(choice)
    course.uses, course.idle = uses, began - idle_since
    return Trace(
        Mode.HTTP, peer, request.listener, course, began, ended, bytes_in, bytes_out, Ended.NORMAL,
        began, answered, status, method, target, b"HTTP/1.1", request_id,
    )  # fmt: skip


# A tcp session: the client's address, its listener, how its search went, when it began, when it ended (None: it is
# under way), bytes in, bytes out, and the code.
Session = tuple[Any, str, Course, float, float | None, int, int, Ended | None]


def session_trace(session: Session) -> Trace:
    return Trace(Mode.TCP, *session)


def _made_at(choice: Decision | Picked) -> float:
    return choice.at if isinstance(choice, Decision) else choice[0]


class Stories:
    """Of one worker: the last thousand of each kind, and of those that went wrong; 1 KB each, and their targets."""

    def __init__(self) -> None:
        self._plain: deque[Plain] = deque(maxlen=KEPT)
        self._sessions: deque[Session] = deque(maxlen=KEPT)
        self._others: deque[Trace] = deque(maxlen=KEPT)
        self._wrong: deque[Trace] = deque(maxlen=KEPT)  # the many that went well don't push them out
        self.keep_session = self._sessions.append  # of one that went well

    def keep(self, trace: Trace) -> None:
        (self._wrong if trace.went_wrong else self._others).append(trace)

    def keep_plain(self, many: list[Plain], errors: int) -> None:
        """Of which so many are responses of 500 and above."""
        if errors:
            self._wrong.extend(_plain_over(plain) for plain in many if plain[2] >= 500)
            many = [plain for plain in many if plain[2] < 500]
        self._plain.extend(many)

    @property
    def traces(self) -> list[Trace]:
        """In no order to rely on."""
        return [
            *map(_plain_over, self._plain),
            *map(session_trace, self._sessions),
            *self._others,
            *self._wrong,
        ]

    def decisions(self, last: int, under_way: Iterable[Course]) -> list[Decision]:
        """The last choices, the latest first; those under way are not among ours.

        They are compared as they are kept: to make a Trace of each story would cost a worker 50 ms.
        """
        courses = [session[2] for session in self._sessions]
        courses += [trace.course for trace in (*self._others, *self._wrong) if trace.course is not None]
        choices: list[Decision | Picked] = [plain[-1][:6] for plain in self._plain]
        for course in (*courses, *under_way):
            choices += course.choices
        return [decision_of(choice) for choice in nlargest(last, choices, key=_made_at)]

    def __repr__(self) -> str:
        well = len(self._plain) + len(self._sessions) + len(self._others)
        return f"<Stories {well} that went well, {len(self._wrong)} that went wrong>"
