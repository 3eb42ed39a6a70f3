"""The response's X-Gproxy-Explain field, for listeners with `explain_header: true`.

    X-Gproxy-Explain: b3; policy=least_connections; pool=hit; tries=2; excluded=b2:down,b1:tried

| part | |
|---|---|
| the first | who served, `-` for nobody |
| `policy` | `balance` of the upstream |
| `pool` | `hit`: an idle connection; `ahead`: one that was dialled ahead; `miss`: a fresh one; `off`: none is pooled |
| `tries` | how many backends were chosen, or connections of one |
| `queued` | it waited for a connection slot |
| `excluded` | at the last choice: why each other backend was no candidate |
"""

from __future__ import annotations

import re

from gproxy.core.settings import Reuse
from gproxy.stories import Course, Try
from gproxy.upstream import Exclusion

_MOST = 20  # backends that are named: the field must not outgrow what clients take
_UNSAFE = re.compile(r"[^\w.:/\[\]-]", re.ASCII)  # of a name: what has a meaning here, or none in a field
_WORDS = {reason.value: reason.name.lower() for reason in Exclusion}


def explain_line(course: Course | None) -> bytes:
    """The field with its line end; nothing where no backend was looked for."""
    if course is None or not course.tries:
        return b""
    tries = course.tries
    last = tries[-1]
    chosen = [each for each in tries if each.decision.backend is not None]
    parts = [
        _name(last.decision.backend.name) if last.decision.backend is not None else "-",
        f"policy={course.upstream.settings.balance.kind}",
        *([f"pool={_pool(course, last)}"] if last.uses else []),
        f"tries={len(chosen)}",
        *(["queued"] if any(each.decision.queued for each in tries) else []),
        *_excluded(last),
    ]
    return b"X-Gproxy-Explain: %b\r\n" % "; ".join(parts).encode("ascii")


def _pool(course: Course, last: Try) -> str:
    if last.idle is not None:
        return "hit" if last.uses > 1 else "ahead"
    pool = course.upstream.settings.pool
    return "off" if pool.reuse is Reuse.NEVER and not pool.preconnect else "miss"


def _excluded(last: Try) -> list[str]:
    named = [f"{_name(name)}:{_WORDS[reason]}" for name, reason in last.decision.excluded]
    if not named:
        return []
    more = [f"+{len(named) - _MOST}"] if len(named) > _MOST else []
    return [f"excluded={','.join(named[:_MOST] + more)}"]


def _name(name: str) -> str:
    return _UNSAFE.sub("_", name)[:100]
