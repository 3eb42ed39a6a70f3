"""A configuration file to frozen settings, every problem in it reported at once.

document.py   bytes -> YAML nodes, within bounds
walk.py       nodes -> sections, by tables of keys; lines, paths, variables, suggestions
scalars.py    text -> a duration, a choice, an address
upstreams.py  load_balancer and upstreams     root.py  all the rest, and the whole
http.py       a listener's keys for http      http_scalars.py  their words
modes.py      what an upstream may say to listeners of tcp, and of http
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from gproxy.config.document import compose, read_text
from gproxy.config.root import read_config
from gproxy.config.walk import Report, Value
from gproxy.core.settings import Config

__all__ = ["load", "parse"]


def load(path: str, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a file; ConfigError has all of its problems, or why it can't be read."""
    return parse(read_text(path), path, environ)


def parse(text: str, source: str, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a text; ``source`` is its name in messages. Raises ConfigError and nothing else."""
    node = compose(text, source)
    return read_config(Value(node, node.start_mark.line + 1, "", Report(source, environ)))
