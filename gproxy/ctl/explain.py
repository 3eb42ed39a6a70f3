"""`gproxy explain`: what became of requests and tcp sessions, and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final

from gproxy.arguments import ArgumentParser
from gproxy.ctl import prose, target
from gproxy.ctl.program import write
from gproxy.ctl.words import printable

_NOT_FOUND: Final = 1
_DESCRIPTION: Final = """\
Says of requests and tcp sessions which backends could serve, why each other could not, what the policy went by, how
the connection was had, each try and why it came to nothing, the timers, and how it ended. The last thousand or more of
each worker are known, and those under way.
"""
_EPILOG: Final = "exit status: 0 done; 1 nothing is known of it, or refused, or failed; 2 a wrong command line"


def main(arguments: Sequence[str]) -> int:
    """The exit status. GproxyError, as cli.py prints it."""
    options = parser().parse_args(arguments)
    document = target.client_of(options).get("/v1/explain", **_query(options))
    for note in _notes(document):
        print(f"gproxy: {note}", file=sys.stderr)
    found = document["stories"]
    if options.json:
        write(json.dumps(document, indent=2))
    elif found:
        write(prose.stories(document))
    if options.what is not None and not found:
        kept = "each worker keeps its last thousand or so"
        print(f"gproxy: nothing is known of {printable(options.what)}; {kept}", file=sys.stderr)
        return _NOT_FOUND
    return 0


def parser() -> argparse.ArgumentParser:
    found = ArgumentParser("gproxy explain", description=_DESCRIPTION, epilog=_EPILOG)
    found.add_argument(
        "what", nargs="?", metavar="REQUEST_ID | CLIENT",
        help="X-Request-ID of a request, as in the access log; or a client's address, with its port or without"
        " (default: any)",
    )  # fmt: skip
    found.add_argument("--last", metavar="N", type=int, default=20, help="how many at most, 1 to 100 (default 20)")
    found.add_argument(
        "--failed", action="store_true", help="only what ended badly, or took more than one try or a wait"
    )
    found.add_argument("--json", action="store_true", help="the API's document, for scripts")
    target.add_options(found)
    return found


def is_client(what: str) -> bool:
    """Whether it is an address, and no request id: 10.0.0.7, 10.0.0.7:51234, ::1, [::1]:51234 or unix:."""
    if what.startswith("unix:"):
        return True
    host, colon, port = what.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    return _is_ip(what) or (bool(colon) and port.isdigit() and _is_ip(bare))


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _query(options: argparse.Namespace) -> dict[str, str | int]:
    query: dict[str, str | int] = {"last": options.last}
    if options.what is not None:
        query["client" if is_client(options.what) else "request_id"] = options.what
    if options.failed:
        query["failed"] = "true"
    return query


def _notes(document: dict[str, Any]) -> list[str]:
    """What somebody should know who believes that this is all."""
    notes = []
    if silent := document["workers"] - document["answered"]:
        notes.append(f"{silent} of {document['workers']} workers did not answer in time")
    if left_off := document["left_off"]:
        notes.append(f"{left_off} more did not fit: ask for fewer, for a client or for a request id")
    return notes
