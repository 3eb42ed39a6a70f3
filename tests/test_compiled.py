"""What setup.py compiles where GPROXY_COMPILE=1 asks for it, and a law of mypyc's that its sources must keep."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
COMPILED = re.search(r'COMPILED = """(.*?)"""', (TOP / "setup.py").read_text(), re.DOTALL)
MODULES = COMPILED[1].split() if COMPILED else []


@pytest.mark.parametrize("module", MODULES)
def test_a_name_has_one_type_in_all_except_clauses_of_a_function(module):
    """Else mypyc gives it the first one, and the others end in a TypeError."""
    for function in ast.walk(ast.parse((TOP / "gproxy" / module).read_text())):
        if isinstance(function, ast.FunctionDef):
            handlers = [each for each in ast.walk(function) if isinstance(each, ast.ExceptHandler) and each.name]
            types = {(each.name, ast.unparse(each.type)) for each in handlers if each.type is not None}
            names = [name for name, _ in types]
            assert len(names) == len(set(names)), f"{function.name}: {sorted(types)}"


def test_the_version_says_whether_it_is_compiled():
    told = {}
    for tree in (TOP, TOP / ".compiled"):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gproxy", "--version"], env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        told[tree.name == ".compiled"] = done.stdout.strip()
    assert told[True] == f"{told[False]}, compiled"
