"""Modules of gproxy that were compiled in place."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from tests.support.proxy import TOP


def stale() -> list[Path]:
    """Those that are older than their source, and so would be tested in its place."""
    declared = [path.stat().st_mtime for path in TOP.glob("gproxy/**/*.pxd")]  # a module depends on others' too
    compiled = [(path, path.with_suffix(EXTENSION_SUFFIXES[0])) for path in sorted(TOP.glob("gproxy/**/*.py"))]
    return [
        path.relative_to(TOP)
        for path, built in compiled
        if built.exists() and built.stat().st_mtime < max(path.stat().st_mtime, *declared)
    ]
