"""Which build of gproxy runs: modules of the data path may be compiled (setup.py), and do the same either way."""

from __future__ import annotations

from importlib.util import find_spec


def build() -> str:
    """``compiled`` or ``pure Python``."""
    spec = find_spec("gproxy.net.stream")
    assert spec is not None
    return "pure Python" if str(spec.origin).endswith(".py") else "compiled"
