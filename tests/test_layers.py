"""Imports inside gproxy point downwards only, and the lower rings stay clean.

The modules are parsed, not imported: an import inside a function or under TYPE_CHECKING counts too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]

# From the top down. A module may import what stands in a lower row. A package stands for
# all its modules, which may import one another; modules that share a row may not.
ROWS = (
    ("__main__",),
    ("cli",),
    ("demo", "ctl"),
    ("supervisor",),
    ("child", "errands"),
    ("orders", "generation", "upgrade"),
    ("worker", "steward"),
    ("building", "board"),
    ("sockets", "channel"),
    ("config",),
    ("statsd", "logs", "masterlog", "admin"),
    ("logformat", "watchdog"),
    ("accesslog",),
    ("http", "tcp"),
    ("search", "idle"),
    ("service",),
    ("stories",),
    ("router",),
    ("discovery",),
    ("upstream",),
    ("health",),
    ("shared",),
    ("probes", "timeouts", "metrics"),
    ("probes_http",),
    ("net",),
    ("pidfile", "privileges", "systemd"),
    ("core",),
    ("errors",),
    ("__init__", "build", "arguments"),  # the version; the parser of command lines
)
RANK = {part: len(ROWS) - row for row, parts in enumerate(ROWS) for part in parts}

# What a ring may not import, with everything below it.
_MASTERS = ("gevent", "threading", "gproxy.net")  # the master process forks, and runs on a loop of its own
_SERVING = (
    "gevent", "gproxy.supervisor", "gproxy.worker", "gproxy.steward", "gproxy.admin", "gproxy.http", "gproxy.tcp",
    "gproxy.router", "gproxy.upstream", "gproxy.metrics", "gproxy.net",
)  # fmt: skip
FORBIDDEN = {
    "ctl": _SERVING,  # it knows the admin API by its documents
    "logformat": _MASTERS,
    "masterlog": _MASTERS,
    "watchdog": _MASTERS,
    "core": ("gevent", "socket", "_socket", "ssl", "_ssl", "select", "selectors", "time", "random", "secrets", "os",
             "asyncio", "threading", "subprocess", "yaml", "statsd"),
    "net": ("yaml", "http", "httptools", "statsd", "gproxy.config", "gproxy.core.balance", "gproxy.core.http"),
}  # fmt: skip

Sources = dict[str, str]  # dotted module name -> its text


@pytest.fixture(scope="module")
def sources() -> Sources:
    found = {_dotted(path.relative_to(TOP)): path.read_text() for path in (TOP / "gproxy").rglob("*.py")}
    assert len(found) > 20
    return found


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The part of gproxy, as ROWS has them, that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def imports(module: str, sources: Sources) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import; `from package import module` is that module."""
    package = module if _is_package(module, sources) else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(sources[module])):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if inner in sources else base


def _is_package(module: str, sources: Sources) -> bool:
    return any(other.startswith(f"{module}.") for other in sources)


def inner_imports(module: str, sources: Sources) -> Iterator[tuple[int, str]]:
    return ((line, name) for line, name in imports(module, sources) if name.split(".")[0] == "gproxy")


def upward(sources: Sources) -> list[str]:
    """Each import that does not point down."""
    found = []
    for module in sources:
        for line, name in inner_imports(module, sources):
            here, there = part_of(module), part_of(name)
            inside_package = here == there and here in ("config", "core", "http", "net", "admin", "ctl")
            if RANK[there] >= RANK[here] and not inside_package:
                found.append(f"{module}:{line} imports {name}")
    return found


def forbidden(sources: Sources) -> list[str]:
    """Each import that a ring must do without."""
    return [
        f"{module}:{line} imports {name}"
        for module in sources
        for line, name in imports(module, sources)
        for banned in FORBIDDEN.get(part_of(module), ())
        if name == banned or name.startswith(f"{banned}.")
    ]


def patching(sources: Sources) -> list[str]:
    """Each mention of gevent.monkey's functions that patch."""
    found = []
    for module, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                found += [(module, node.lineno, node.attr)]
            elif isinstance(node, ast.ImportFrom) and node.module == "gevent.monkey":
                found += [(module, node.lineno, alias.name) for alias in node.names]
    return [f"{module}:{line} uses {name}" for module, line, name in found if name.startswith("patch_")]


def test_every_module_has_its_place(sources: Sources) -> None:
    assert [module for module in sources if part_of(module) not in RANK] == []


def test_imports_point_downwards(sources: Sources) -> None:
    assert upward(sources) == []


def test_imports_make_no_circle(sources: Sources) -> None:
    """Inside a package too, where the rows say nothing."""
    graph = {module: {name for _, name in inner_imports(module, sources)} for module in sources}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1][::-1]))


def test_core_is_pure_and_net_knows_only_its_trade(sources: Sources) -> None:
    assert forbidden(sources) == []


def test_nobody_patches(sources: Sources) -> None:
    assert patching(sources) == []


# The checks themselves: each finds what it is for.


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("gproxy.core.retry", "from gproxy.net.dial import dial"),
        ("gproxy.core.retry", "from gproxy import net"),
        ("gproxy.core.retry", "from ..net import dial"),
        ("gproxy.net.pool", "def f():\n    import gproxy.upstream"),
        ("gproxy.router", "if TYPE_CHECKING:\n    from gproxy.worker import Worker"),
        ("gproxy.metrics", "from gproxy.timeouts import TimeoutManager"),
        ("gproxy.errors", "from gproxy.core.settings import Config"),
    ],
)
def test_an_upward_import_is_found(sources: Sources, module: str, text: str) -> None:
    assert len(upward(sources | {module: text})) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("gproxy.core.retry", "import time"),
        ("gproxy.core.retry", "from _socket import socket"),
        ("gproxy.core.new", "import os.path"),
        ("gproxy.core.retry", "from gevent.event import Event"),
        ("gproxy.net.pool", "import http.client"),
        ("gproxy.net.pool", "from gproxy.core import balance"),
        ("gproxy.net.pool", "from gproxy.config import load"),
        ("gproxy.ctl.client", "from gproxy.admin.state import STATE"),
    ],
)
def test_a_forbidden_import_is_found(sources: Sources, module: str, text: str) -> None:
    assert len(forbidden(sources | {module: text})) == 1


@pytest.mark.parametrize(
    "text",
    ["from gevent.monkey import patch_all", "import gevent.monkey\ngevent.monkey.patch_all()",
     "from gevent import monkey as m\nm.patch_socket()"],
)  # fmt: skip
def test_patching_is_found(sources: Sources, text: str) -> None:
    assert len(patching(sources | {"gproxy.cli": text})) == 1
