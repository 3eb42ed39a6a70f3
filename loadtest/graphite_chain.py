"""StatsD, carbon and graphite-web as processes, with the configurations of etc/graphite.

    gproxy ── UDP ──► StatsD ── lines ──► carbon ──► files ◄── graphite-web ◄── /render

    with started(directory, flush_seconds=2) as chain:
        chain.ports.statsd              is where gproxy sends to
        chain.total("stats.counters.gproxy.bytes_in.count")

All listen on free loopback ports, keep their files in one directory, and end with the block, or with
the process that started them. They come from .graphite: `sh etc/bootstrap.sh graphite`.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from processes import Child, MissingToolError, free_ports, running, wait_until

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLES = REPOSITORY / "etc" / "graphite"
INSTALLED = REPOSITORY / ".graphite"
START_SECONDS = 30.0
ANSWER_SECONDS = 20.0

Points = list[tuple[float | None, int]]  # value and Unix time


@dataclass(frozen=True)
class Ports:
    statsd: int  # UDP
    statsd_management: int
    carbon: int
    carbon_query: int
    web: int

    @classmethod
    def free(cls) -> Ports:
        return cls(*free_ports(5))


@dataclass(frozen=True)
class Chain:
    """Where it is, and what it answers."""

    directory: Path
    ports: Ports
    flush_seconds: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.web}"

    def render(self, *targets: str, form: str = "json", minutes: int = 10, **options: str | int) -> bytes:
        """What /render answers, up to now."""
        query = [*(("target", target) for target in targets), ("format", form), ("from", f"-{minutes}min")]
        with urlopen(f"{self.url}/render?{urlencode([*query, *options.items()])}", timeout=ANSWER_SECONDS) as answer:
            return bytes(answer.read())

    def points(self, target: str) -> dict[str, Points]:
        """The values of each series that `target` names."""
        return {
            series["target"]: [(value, int(when)) for value, when in series["datapoints"]]
            for series in json.loads(self.render(target))
        }

    def total(self, target: str) -> float:
        """All values of all series that `target` names, added up."""
        return sum(value for points in self.points(target).values() for value, _ in points if value is not None)

    @contextlib.contextmanager
    def statsd(self) -> Iterator[Child]:
        """The StatsD daemon."""
        # It flushes in the phase of its start. Shortly before a slot's end, a flush that is a little late
        # would fall into the next slot, and the next flush overwrite it.
        time.sleep(-time.time() % self.flush_seconds)
        environ = {
            "STATSD_PORT": self.ports.statsd,
            "STATSD_MGMT_PORT": self.ports.statsd_management,
            "STATSD_FLUSH_INTERVAL": self.flush_seconds * 1000,
            "GRAPHITE_PORT": self.ports.carbon,
        }
        command = ("node", _installed("node_modules/statsd/stats.js"), SAMPLES / "statsd.js")
        with running(self._child("statsd", environ, *command)) as child:
            child.wait_for(self.ports.statsd_management)
            yield child

    @contextlib.contextmanager
    def graphite(self) -> Iterator[None]:
        """Carbon and graphite-web."""
        self._write_configuration()
        carbon = (_installed("venv/bin/carbon-cache.py"), "--nodaemon", "--config", self.directory / "carbon.conf",
                  "--pidfile", self.directory / "carbon.pid", "--logdir", self.directory, "start")  # fmt: skip
        web = (_installed("venv/bin/gunicorn"), "--bind", f"127.0.0.1:{self.ports.web}", "--threads", "4",
               "--pythonpath", SAMPLES, "graphite.wsgi:application")  # fmt: skip
        environ = {
            "GRAPHITE_ROOT": self.directory,
            "GRAPHITE_CONF_DIR": self.directory,
            "GRAPHITE_STORAGE_DIR": self.directory,
            "GRAPHITE_SETTINGS_MODULE": "local_settings",
            "CARBON_QUERY_PORT": self.ports.carbon_query,
            "PYTHONDONTWRITEBYTECODE": 1,
            "HOME": self.directory,  # gunicorn keeps a socket there
        }
        with (
            running(self._child("carbon", environ, *carbon)) as store,
            running(self._child("web", environ, *web)) as site,
        ):
            store.wait_for(self.ports.carbon_query)
            site.wait_for(self.ports.web)
            wait_until(lambda: self.render() == b"[]", START_SECONDS, "graphite-web answers")
            yield

    def _write_configuration(self) -> None:
        """The samples, with these ports and with StatsD's interval as the finest retention."""
        ports = {"LINE_RECEIVER_PORT": self.ports.carbon, "CACHE_QUERY_PORT": self.ports.carbon_query}
        retentions = f"{self.flush_seconds}s:1h,1m:6h"
        self._copy("carbon.conf", {"cache": ports})
        self._copy("storage-schemas.conf", {"statsd": {"retentions": retentions}})
        self._copy("storage-aggregation.conf", {})

    def _copy(self, name: str, changes: Mapping[str, Mapping[str, object]]) -> None:
        sample = configparser.RawConfigParser()
        sample.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they are written
        sample.read(SAMPLES / name)
        for section, keys in changes.items():
            for key, value in keys.items():
                assert sample.has_option(section, key), f"{name}: no {key}"
                sample.set(section, key, str(value))
        with (self.directory / name).open("w") as file:
            sample.write(file)

    def _child(self, name: str, environ: Mapping[str, object], *command: object) -> Child:
        """With a log beside its files; it is told to end when we are gone, however that comes."""
        wrapped = ["setpriv", "--pdeathsig", "TERM", "env", *(f"{key}={value}" for key, value in environ.items())]
        return Child([*wrapped, *map(str, command)], self.directory / f"{name}.log", None)


@contextlib.contextmanager
def started(directory: Path, flush_seconds: int) -> Iterator[Chain]:
    """The whole chain; `directory` must exist."""
    chain = Chain(directory, Ports.free(), flush_seconds)
    with chain.graphite(), chain.statsd():
        yield chain


def _installed(name: str) -> Path:
    path = INSTALLED / name
    if not path.exists():
        raise MissingToolError(f"{path} is missing: sh etc/bootstrap.sh graphite")
    return path
