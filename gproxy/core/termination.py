"""How a session or an http exchange ended, in two letters: who ended it, and in which phase.

Each code is composed of one key of WHO and one of PHASE. `Ended` lists those that occur,
`SENTENCES` says each of them in a sentence for people. A capital `C` or `S` acted, by a reset
or by going away; a small one failed to act in time.

A tcp session has one code. An http session has one for each exchange; the session's own end
between two exchanges is nobody's news. One that ends badly before its first exchange, for
instance by a head that never came, has one for what would have been that exchange.
"""

from __future__ import annotations

from enum import StrEnum

WHO = {
    "C": "the client",
    "S": "the backend",
    "P": "the proxy refused",
    "R": "the proxy ran out of resources",
    "I": "a defect of the proxy's",
    "D": "the backend was marked down",
    "K": "an operator's drain or shutdown",
    "c": "the client's timeout",
    "s": "the backend's timeout",
    "-": "nobody",
}

PHASE = {
    "R": "while the request was read",
    "Q": "while waiting for a connection slot",
    "C": "while connecting to a backend",
    "H": "before the response head was complete",
    "D": "while data was transferred",
    "L": "while the last bytes were sent",
    "T": "in a tunnel",
    "-": "at the normal end",
}


class Ended(StrEnum):
    """The codes that occur; those with R, H or T as the phase, and with P, are http's alone."""

    NORMAL = "--"
    REFUSED = "PR"
    OVERLOADED = "RR"
    CLIENT_LEFT_HEAD = "CR"
    HEAD_TIMEOUT = "cR"
    CLIENT_LEFT_WAITING = "CH"
    NO_RESPONSE = "SH"
    RESPONSE_TIMEOUT = "sH"
    RESPONSE_MALFORMED = "PH"
    BODY_MALFORMED = "PD"
    TUNNEL_CLIENT_RESET = "CT"
    TUNNEL_BACKEND_RESET = "ST"
    TUNNEL_TIMEOUT = "cT"
    CLIENT_LEFT_QUEUE = "CQ"
    QUEUE_TIMEOUT = "sQ"
    KILLED_IN_QUEUE = "KQ"
    NO_BACKEND = "SC"
    CONNECT_TIMEOUT = "sC"
    OUT_OF_RESOURCES = "RC"
    KILLED_IN_CONNECT = "KC"
    DEFECT = "IC"
    CLIENT_RESET = "CD"
    BACKEND_RESET = "SD"
    CLIENT_TIMEOUT = "cD"
    BACKEND_STALLED = "sD"
    BACKEND_DOWN = "DD"
    KILLED = "KD"
    CLIENT_UNFINISHED = "cL"
    BACKEND_UNFINISHED = "sL"


SENTENCES: dict[str, str] = {
    Ended.NORMAL: "Both sides finished.",
    Ended.REFUSED: "The proxy refused the request: it was malformed, beyond a limit or not supported.",
    Ended.OVERLOADED: "The proxy had as many connections as max_connections allows, and on_overload is reject.",
    Ended.CLIENT_LEFT_HEAD: "The client went away before its request's head was complete.",
    Ended.HEAD_TIMEOUT: "The request's head was not complete within request_head_timeout.",
    Ended.CLIENT_LEFT_WAITING: "The client went away before the response began.",
    Ended.NO_RESPONSE: "The backend closed or reset the connection before its response's head was complete.",
    Ended.RESPONSE_TIMEOUT: "The response's head was not complete within response_timeout.",
    Ended.RESPONSE_MALFORMED: "The proxy refused the response: its head was malformed or beyond a limit.",
    Ended.BODY_MALFORMED: "The proxy broke the exchange off: a body was malformed after the response had begun.",
    Ended.TUNNEL_CLIENT_RESET: "The client reset the upgraded connection.",
    Ended.TUNNEL_BACKEND_RESET: "The backend reset the upgraded connection.",
    Ended.TUNNEL_TIMEOUT: "The upgraded connection was idle for tunnel_timeout, or a peer took no bytes"
    " for stall_timeout.",
    Ended.CLIENT_LEFT_QUEUE: "The client went away while it waited for a connection slot of a backend.",
    Ended.QUEUE_TIMEOUT: "No connection slot of a backend came free within queue_timeout.",
    Ended.KILLED_IN_QUEUE: "The drain or shutdown ended while the session waited for a connection slot.",
    Ended.NO_BACKEND: "No backend could be connected: none was eligible, or all that were tried failed.",
    Ended.CONNECT_TIMEOUT: "The backend did not accept the connection within backend_connect_timeout.",
    Ended.OUT_OF_RESOURCES: "The proxy ran out of file descriptors or ports while it connected to a backend.",
    Ended.KILLED_IN_CONNECT: "The drain or shutdown ended while the proxy connected to a backend.",
    Ended.DEFECT: "The proxy failed: its log has the details, please report them.",
    Ended.CLIENT_RESET: "The client reset the connection, or went away, while data was transferred.",
    Ended.BACKEND_RESET: "The backend reset the connection, or broke its response off, while data was transferred.",
    Ended.CLIENT_TIMEOUT: "The session was idle for connection_idle_timeout, or the client neither took nor"
    " sent what was due for stall_timeout.",
    Ended.BACKEND_STALLED: "The backend neither took nor sent what was due for stall_timeout.",
    Ended.BACKEND_DOWN: "The backend went down, and down_action is close_sessions.",
    Ended.KILLED: "The session was still open at the end of the drain or shutdown.",
    Ended.CLIENT_UNFINISHED: "The backend had finished, and the client did not within half_close_timeout.",
    Ended.BACKEND_UNFINISHED: "The client had finished, and the backend did not within half_close_timeout.",
}


def explain(code: str) -> str:
    """A sentence for people. ValueError for what is not a letter of each table."""
    if code in SENTENCES:
        return SENTENCES[code]
    who, phase = WHO.get(code[:1]), PHASE.get(code[1:])
    if who is None or phase is None:
        raise ValueError(f"no termination code {code!r}")
    return f"Ended by {who}, {phase}."
