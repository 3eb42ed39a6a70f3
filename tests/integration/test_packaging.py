"""setup.py: the data path is compiled where that can be done, and all of it or nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.proxy import TOP

DECLARED = ("core/histogram.pxd", "core/retry.pxd")  # two will do here
FAILS_ONCE = '#!/bin/sh\ncase "$*" in *histogram.c*) exit 1 ;; esac\nexec cc "$@"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy with two modules to compile."""
    copy = tmp_path / "checkout"
    shutil.copytree(TOP / "gproxy", copy / "gproxy", ignore=shutil.ignore_patterns("*.so", "*.pxd", "__pycache__"))
    for path in ("setup.py", "README.md", *(f"gproxy/{name}" for name in DECLARED)):
        shutil.copy(TOP / path, copy / path)
    return copy


def built(checkout: Path, **environ: str) -> tuple[list[str], str]:
    """The names of the compiled modules, and what was said, after a build that went well."""
    done = subprocess.run(
        [sys.executable, "setup.py", "build", "--build-lib", "build/lib"],
        cwd=checkout,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (checkout / "build/lib/gproxy/core/histogram.py").exists()
    return sorted(path.name.partition(".")[0] for path in checkout.glob("build/lib/**/*.so")), done.stderr


def test_with_a_compiler_modules_are_compiled(checkout: Path) -> None:
    assert built(checkout)[0] == ["histogram", "retry"]


def test_without_a_compiler_none_is(checkout: Path) -> None:
    modules, said = built(checkout, CC="/bin/false")
    assert modules == []
    assert "gproxy is not compiled, which it can do without" in said


def test_where_one_fails_none_is(checkout: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(FAILS_ONCE)
    compiler.chmod(0o755)
    modules, said = built(checkout, CC=str(compiler))
    assert modules == []
    assert "gproxy is not compiled" in said


def test_what_cython_does_not_understand_is_not_compiled(checkout: Path) -> None:
    (checkout / "gproxy/core/retry.pxd").write_text("cdef class (")
    modules, said = built(checkout)
    assert modules == []
    assert "gproxy is not compiled" in said


def test_on_request_none_is(checkout: Path) -> None:
    assert built(checkout, GPROXY_PURE="1")[0] == []


def test_what_was_compiled_before_does_not_stay(checkout: Path) -> None:
    built(checkout)
    (checkout / "gproxy/core/retry.pxd").unlink()
    assert built(checkout)[0] == ["histogram"]
