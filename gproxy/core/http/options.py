"""What a listener's settings say of forwarding, as bytes."""

from __future__ import annotations

from dataclasses import dataclass

from gproxy.core.http.end_to_end import FRAMING, HOP_BY_HOP, Line, canonical, names
from gproxy.core.settings import Forwarded, HeaderRules, ListenerSettings

# The session relies on these, so no rule may set or remove them. Host may be set, but not removed.
NO_REQUEST_RULE = HOP_BY_HOP | FRAMING | {b"expect", b"x-request-id"}
NO_RESPONSE_RULE = HOP_BY_HOP | FRAMING


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOptions:
    """The names to remove are canonical."""

    forwarded: Forwarded = Forwarded.X_FORWARDED
    request_set: tuple[Line, ...] = ()
    request_remove: frozenset[bytes] = frozenset()
    response_set: tuple[Line, ...] = ()
    response_remove: frozenset[bytes] = frozenset()
    pseudonym: bytes = b"gproxy"  # in Via

    @property
    def request_ruled(self) -> frozenset[bytes]:
        """The canonical names of the fields that are the rules' alone: what came of them is not passed on."""
        return self.request_remove | names(self.request_set)

    @property
    def response_ruled(self) -> frozenset[bytes]:
        """The same for responses."""
        return self.response_remove | names(self.response_set)


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
