"""The dashboard: a page and what belongs to it, from static/. It shows what /v1/stream tells, and has no data itself.

Browsers ask each time whether a file has changed (ETag): after an upgrade nobody sees an old script with a new page.
"""

from __future__ import annotations

from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from typing import Final

from gproxy.admin.answers import Answer
from gproxy.admin.desk import Desk, Request

HTML: Final = "text/html"

# Where it is, which file that is, of which type.
FILES: Final = (
    ("/", "index.html", HTML),
    ("/static/style.css", "style.css", "text/css"),
    ("/static/icon.svg", "icon.svg", "image/svg+xml"),
    *(
        (f"/static/{name}.js", f"{name}.js", "text/javascript")
        for name in ("main", "api", "backends", "charts", "data", "dom", "recent", "strips", "summary", "words")
    ),
    ("/static/uPlot.js", "uplot/uPlot.iife.min.js", "text/javascript"),
    ("/static/uPlot.css", "uplot/uPlot.min.css", "text/css"),
)

# Scripts and styles of ours alone, in no frame, talking to us alone; and no form goes anywhere.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FIELDS: Final = (
    ("Cache-Control", "no-cache"),
    ("Content-Security-Policy", POLICY),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


@cache
def load() -> dict[str, Answer]:
    """All files at once, so that what is served fits together also while another version is being installed."""
    return {name: _answer(name, kind) for _, name, kind in FILES}


def serve(name: str, _desk: Desk, _request: Request) -> Answer:
    return load()[name]


def handler(name: str) -> partial[Answer]:
    return partial(serve, name)


def _answer(name: str, kind: str) -> Answer:
    body = (files("gproxy.admin") / "static" / name).read_bytes()
    tag = ("ETag", f'"{sha256(body).hexdigest()[:16]}"')
    return Answer(200, body, f"{kind}; charset=utf-8", (*_FIELDS, tag))
