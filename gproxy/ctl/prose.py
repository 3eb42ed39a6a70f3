"""The stories of `gproxy explain`, for people. Pure: from the API's documents to text.

A client chooses what its request says: whatever comes from outside is shown without anything that a terminal obeys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gproxy.ctl.words import duration, printable, span

Document = dict[str, Any]

_INDENT = "  "
_LABEL = 12  # columns


def stories(document: Document) -> str:
    """All of them, an empty line apart."""
    return "\n\n".join(story(each) for each in document["stories"])


def story(found: Document) -> str:
    lines = [_title(found), *(_INDENT + line for line in _lines(found))]
    return "\n".join(map(printable, lines))


def _title(found: Document) -> str:
    if found["mode"] == "tcp":
        return f"tcp session of {found['client']}"
    if found["method"] is None:
        asked = "a request that was never read"
    else:
        asked = " ".join(filter(None, (found["method"], found["target"], found["version"])))
    return f"request {found['request_id'] or '(without an id)'}: {asked}"


def _lines(found: Document) -> Iterator[str]:
    yield _labelled(
        "client", f"{found['client']} at listener {found['listener']}, worker {found['worker']}, {_ago(found)}"
    )
    if found["upstream"] is not None:
        yield _labelled("upstream", f"{found['upstream']}, {found['balance']}")
    number = 0
    for index, each in enumerate(found["tries"]):
        if each["queued"]:
            yield from _wait(each, found["tries"][index + 1 :], found["timers"])
        else:
            number += 1
            yield from _try(each, number)
    if found["mode"] == "http":
        yield _labelled("answered", _answer(found))
    yield _labelled("bytes", f"{found['bytes_in']:,} from the client, {found['bytes_out']:,} to it")
    yield _labelled("timers", _timers(found["timers"]))
    yield _labelled("ended", "not yet" if found["code"] is None else f"{found['code']}  {found['ending']}")


def _answer(found: Document) -> str:
    if not found["status"]:
        return "not yet" if found["code"] is None else "nothing"
    return f"{found['status']} of gproxy's own: {found['told']}" if found["told"] else str(found["status"])


def _try(each: Document, number: int) -> Iterator[str]:
    if each["backend"] is None:
        yield _labelled(f"try {number}", "nobody could serve")
    else:
        yield _labelled(f"try {number}", f"{each['backend']}: {each['why']}")
    yield from _standing(each)
    if each["connection"] is not None:
        yield _inner("connection", _connection(each["connection"]))
    if each["failure"] is not None:
        yield _inner("failed", each["failure"])


def _wait(each: Document, later: list[Document], timers: Document) -> Iterator[str]:
    """In the queue."""
    lasted = later[0]["at"] - each["at"] if later else timers["total"] - each["at"]
    yield _labelled("queue", f"no connection slot was free, so it waited for one: {_time(lasted)}")
    yield from _standing(each)


def _standing(each: Document) -> Iterator[str]:
    """Who could serve, and who could not."""
    scores = {score["backend"]: f" ({score['score']:g})" for score in each["scores"]}
    if each["candidates"]:
        yield _inner("candidates", ", ".join(name + scores.get(name, "") for name in each["candidates"]))
    if each["excluded"]:
        yield _inner("excluded", "; ".join(f"{out['backend']}: {out['reason']}" for out in each["excluded"]))


def _connection(found: Document) -> str:
    if found["kind"] == "idle":
        return f"an idle one, for {_time(found['idle'])}; this is its use number {found['uses']}"
    if found["kind"] == "ahead":
        return f"one that was dialled ahead, {_time(found['idle'])} before"
    return f"a fresh one: {found['why']}"


def _timers(found: Document) -> str:
    told = [
        ("head read", found["read"]), ("waited", found["wait"]), ("connected", found["connect"]),
        ("response", found["response"]),
    ]  # fmt: skip
    reached = [f"{name} {_time(seconds)}" for name, seconds in told if seconds is not None]
    return ", ".join([*reached, f"in all {_time(found['total'])}"])


def _ago(found: Document) -> str:
    if found["ended"] is None:
        return f"began {span(found['began'])} ago"
    return f"ended {span(found['ended'])} ago"


def _time(seconds: float) -> str:
    return duration(seconds) if seconds < 10 else span(seconds)


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _inner(label: str, text: str) -> str:
    return f"{_INDENT}{label:<{_LABEL - len(_INDENT)}}  {text}"
