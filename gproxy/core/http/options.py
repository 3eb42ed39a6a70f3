"""What a listener's settings say of forwarding, as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gproxy.core.http.end_to_end import ENDS_HERE, HOP_BY_HOP, Line, field_lines, names
from gproxy.core.http.fields import FRAMING, canonical
from gproxy.core.settings import Forwarded, HeaderRules, ListenerSettings

# The session relies on these, so no rule may set or remove them. Host may be set, but not removed.
NO_REQUEST_RULE = HOP_BY_HOP | FRAMING | {b"expect", b"x-request-id"}
NO_RESPONSE_RULE = HOP_BY_HOP | FRAMING

OURS = frozenset({b"host", b"x-request-id"})  # of a request: gproxy writes them itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOptions:
    """The names to remove are canonical."""

    forwarded: Forwarded = Forwarded.X_FORWARDED
    request_set: tuple[Line, ...] = ()
    request_remove: frozenset[bytes] = frozenset()
    response_set: tuple[Line, ...] = ()
    response_remove: frozenset[bytes] = frozenset()
    pseudonym: bytes = b"gproxy"  # in Via
    host: bytes | None = field(init=False, compare=False, repr=False)  # what a rule sets in the place of Host
    request: Rules = field(init=False, compare=False, repr=False)
    response: Rules = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        hosts = [value for name, value in self.request_set if canonical(name) == b"host"]
        others = [line for line in self.request_set if canonical(line[0]) != b"host"]
        request, response = names(self.request_set), names(self.response_set)
        derived = {
            "host": hosts[0] if hosts else None,
            "request": Rules(self.request_remove | request, others, self.pseudonym, OURS),
            "response": Rules(self.response_remove | response, self.response_set, self.pseudonym),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def request_ruled(self) -> frozenset[bytes]:
        """The canonical names of the fields that are the rules' alone: what came of them is not passed on."""
        return self.request.ruled

    @property
    def response_ruled(self) -> frozenset[bytes]:
        """The same for responses."""
        return self.response.ruled


class Rules:
    """What the operator's rules come down to, for the heads of one direction.

    `ruled` has the names that the rules are about, `gone` those of all lines that are not passed on, `added` the lines
    that are set, as they are sent. `via` is that line for a message that came as HTTP/1.0 and for one of HTTP/1.1 (RFC
    9110 section 7.6.3).
    """

    __slots__ = ("added", "gone", "ruled", "sets_date", "via")

    def __init__(
        self, ruled: frozenset[bytes], added: Sequence[Line], pseudonym: bytes, ours: frozenset[bytes] = frozenset()
    ):
        self.ruled = ruled
        self.gone = ENDS_HERE | ruled | ours
        self.added = field_lines(added)
        self.sets_date = b"date" in names(added)
        self.via = tuple(b"" if b"via" in ruled else b"Via: 1.%d %b\r\n" % (minor, pseudonym) for minor in (0, 1))

    def __repr__(self) -> str:
        return f"<Rules for {sorted(self.ruled)}>"


def forward_options(settings: ListenerSettings) -> ForwardOptions:
    """ValueError for rules that config.py would have refused."""
    request, response = settings.request_headers, settings.response_headers
    options = ForwardOptions(
        forwarded=settings.forwarded,
        request_set=_set(request),
        request_remove=_removed(request),
        response_set=_set(response),
        response_remove=_removed(response),
    )
    refused = options.request_ruled & NO_REQUEST_RULE | options.response_ruled & NO_RESPONSE_RULE
    refused |= options.request_remove & {b"host"}
    if refused:
        raise ValueError(f"no such rule may be made for {b', '.join(sorted(refused)).decode()}")
    return options


def _set(rules: HeaderRules) -> tuple[Line, ...]:
    return tuple((name.encode(), value.encode()) for name, value in rules.set)


def _removed(rules: HeaderRules) -> frozenset[bytes]:
    return frozenset(canonical(name.encode()) for name in rules.remove)
