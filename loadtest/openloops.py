"""Rows that are loaded by openloop.py: latency at a fixed rate, and what many connections cost."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from processes import BenchError

PROGRAM = Path(__file__).with_name("openloop.py")
MARGIN_SECONDS = 30.0  # after which a generator that says nothing is killed


@dataclass(frozen=True)
class Pace:
    """What the generator is asked for."""

    rate: int  # requests per second
    connections: int = 64  # that stay
    new: bool = False  # a connection for each request instead


@dataclass(frozen=True)
class Timing:
    """What it says; latencies in microseconds, counted from when each request was due."""

    requests: int
    seconds: float
    latency: dict[str, float]
    lateness: dict[str, float]

    @property
    def figures(self) -> dict[str, float]:
        """The percentiles of latency, and the generator's own share in the 99th."""
        return {**self.latency, "late": self.lateness["p99"]}


class Generator:
    """Its connections are open when it exists; `run()` sends."""

    def __init__(self, process: subprocess.Popen[str], seconds: int) -> None:
        self._process, self._seconds = process, seconds

    def run(self) -> Timing:
        try:
            said, _ = self._process.communicate("go\n", timeout=self._seconds + MARGIN_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BenchError("openloop.py hangs") from error
        result = parsed(said)
        return Timing(int(result["requests"]), float(result["seconds"]), result["latency"], result["lateness"])


def parsed(line: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise BenchError(f"openloop.py says: {line[-200:]}") from error
    if "error" in result:
        raise BenchError(f"openloop.py: {result['error']}")
    return result


@contextlib.contextmanager
def generator(port: int, pace: Pace, seconds: int) -> Iterator[Generator]:
    """BenchError when the proxy does not accept the connections."""
    numbers = (port, 0 if pace.new else pace.connections, pace.rate, seconds)
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, numbers), *(["new"] if pace.new else [])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        first = said(process.stdout)
        if first != "ready\n":
            raise BenchError(f"{parsed(first)}")
        yield Generator(process, seconds)
    finally:
        process.kill()
        process.communicate(timeout=MARGIN_SECONDS)


def said(stream: IO[str] | None) -> str:
    """A line; openloop.py itself bounds how long it takes."""
    assert stream is not None
    return stream.readline()
