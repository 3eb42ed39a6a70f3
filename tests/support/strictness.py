"""What was decided where gproxy and both HAProxy and nginx differ over an odd request: docs/strictness.md, as a table.

A `Decision` is for the requests whose names its pattern matches; of each finding there is exactly one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.generated import table
from tests.support.http_judge import Meaning

Outcome = tuple[Meaning, ...]  # what an origin read of one request; () where it was refused


class Decision(NamedTuple):
    pattern: str
    what: str
    decision: str
    rare: bool = False  # whether another proxy does so now and then, by how the bytes are cut


class Judged(NamedTuple):
    """One request's fate."""

    name: str
    ours: Outcome
    others: tuple[Outcome, Outcome]


def let_through(case: Judged) -> bool:
    """By gproxy, and by neither of the others."""
    return bool(case.ours) and not any(case.others)


def forwarded_differently(case: Judged) -> bool:
    """From whichever of the others let it through."""
    others = [other for other in case.others if other]
    aspects = ("method", "target", "host", "body", "fields")
    return bool(case.ours and others) and any(
        _aspect(case.ours, aspect) not in [_aspect(other, aspect) for other in others] for aspect in aspects
    )


def _aspect(outcome: Outcome, name: str) -> object:
    """Of the first request that became of it: whether a second one still arrives is a matter of time."""
    return getattr(outcome[0], name)


def refused_alone(case: Judged) -> bool:
    """By gproxy, while both others let it through."""
    return not case.ours and all(case.others)


LET_THROUGH = (
    Decision(
        r"target http://a_b/",
        "an absolute target whose host has a `_`",
        "accept: all three take it in `Host`, and names in a container network have it; the target's host becomes the "
        "`Host`, so a backend sees one name",
    ),
    Decision(
        r"GET with X-A: aaa.* of 20005 bytes",
        "a field of 20,000 bytes",
        "accept: HAProxy has room for a head of 16 KiB and nginx for a field of 8 KiB; `max_head` is gproxy's limit",
    ),
)

FORWARDED_DIFFERENTLY = (
    Decision(
        r"target http://(?!origin/\.\.)|target HTTP://",
        "an absolute target whose host is not what `Host` says, or is spelt in another way",
        "the target's host becomes the `Host` (RFC 9112 3.2.2); HAProxy refuses what differs, and nginx's `$http_host` "
        "is what the client sent",
    ),
    Decision(
        r"target http://origin/\.\./a",
        "a path that climbs, in an absolute target",
        "as it is, like any path, where there are no `routes`; with `routes` it is refused. HAProxy forwards it in the "
        "absolute form",
    ),
    Decision(r"OPTIONS http://origin$", "`OPTIONS` of an absolute target without a path", "`*` (RFC 9112 3.2.4)"),
    Decision(
        r"no Host in HTTP/1\.0",
        "HTTP/1.0 without `Host`",
        "the address that the client has connected to: a backend is asked in HTTP/1.1, which needs one",
    ),
    Decision(
        r".*Connection: X-A|.*Connection: x_a",
        "a field that `Connection` names",
        "dropped (RFC 9110 7.6.1), in any spelling",
    ),
    Decision(
        r".*Proxy-Connection|.*Proxy-Authenticate|.*HTTP2-Settings",
        "`Proxy-Connection`, `Proxy-Authenticate`, `HTTP2-Settings`",
        "dropped: they are for the next hop",
    ),
    Decision(
        r"GET with Upgrade: websocket and Connection",
        "a WebSocket without its key",
        "forwarded, for the backend to refuse; HAProxy refuses it, and nginx drops `Upgrade` unless it is told not to",
    ),
    Decision(
        r"GET with Forwarded",
        "`Forwarded` of a client that is not in `trusted_proxies`",
        "dropped, or anybody could say where he comes from",
    ),
)

_LF = "refuse: a lone LF ends a line for one server and not for the next, which is what smuggling of requests needs"
REFUSED_ALONE = (
    Decision(
        r"every line ends|line \d ends|head ends|GET whose lines|GET after \\n|chunk size LF|chunk end|end 0|"
        r"chunk shorter|.*after LF$|.*with LF$|trailer X: a\\nY|trailer X: y\\n",
        "a line that ends with LF alone, in a head, a chunk or a trailer",
        _LF,
    ),
    Decision(
        r"length 30 zeros|chunk size \d+ zeros",
        "a length of more than 19 digits, a chunk size of more than 15",
        "refuse: a server that counts in 64 bits may see another number",
    ),
    Decision(
        r"chunk extension ( |\\t)$|last chunk 0 $",
        "white space behind a chunk size that no extension follows",
        "refuse: RFC 9112 7.1.1 has none there",
    ),
    Decision(
        r"chunk extension ;.*\\x|trailer X: \\x|field X|.* after (VT|FF), ",
        "control characters in a value, a trailer or a chunk extension",
        "refuse: to some servers they are white space, or an end",
    ),
    Decision(
        r"trailer X: y\\r\\n folded",
        "a folded line in a trailer",
        "refuse: folding is obsolete (RFC 9112 5.2), and not read by all",
    ),
    Decision(
        r"trailer (X :|X\\t:|: |X\\x00:|\\x0bX|X Y| X:|X: y\\r$|X: a\\r|GET )",
        "a trailer that is no field; HAProxy lets it through now and then, by how the bytes are cut",
        "refuse",
        rare=True,
    ),
    Decision(
        r"version  HTTP|start POST  /",
        "two spaces in a request line",
        "refuse: RFC 9112 3 has one",
    ),
    Decision(
        r"[hH]ost",
        "a `Host` that is no name and no address, such as `a@b`, `a#b`, `a:80:80`, `[::1` or `a*b`; an empty label, a "
        "port above 65535, more than 255 bytes",
        "refuse: what a backend makes of it may be another host",
    ),
    Decision(r"(GET|HTTP/1\.0) with Expect|Expect", "an expectation that is not `100-continue`", "refuse with 417"),
    Decision(
        r"target (ftp|ws):", "an absolute target of another scheme", "refuse: gproxy would have to ask for it by http"
    ),
    Decision(r"GET after .* of 40 bytes", "more than 16 bytes of empty lines before a request", "refuse"),
)


def undecided(found: Sequence[Judged], decisions: Sequence[Decision]) -> list[str]:
    """The findings that have not exactly one decision."""
    return [
        f"{case.name}: {len(fitting)} decisions"
        for case in found
        if len(fitting := [each for each in decisions if re.match(each.pattern, case.name)]) != 1
    ]


def needless(found: Sequence[Judged], decisions: Sequence[Decision]) -> list[str]:
    """The decisions about nothing."""
    return [
        each.what
        for each in decisions
        if not each.rare and not any(re.match(each.pattern, case.name) for case in found)
    ]


def render(decisions: Sequence[Decision]) -> str:
    """The table of one section."""
    return table(("requests", "decision"), [(each.what, each.decision) for each in decisions])
