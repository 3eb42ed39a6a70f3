"""Walking YAML nodes with a table of keys, collecting every problem with its line and path.

    walk(value, {"size": scalar(whole(1, 10)), ...})  ->  Section

A reader takes a ``Value`` and returns what it means, or raises ValueError for the walker
to report, or reports several problems itself through ``refuse``. It never returns None,
which stands for "was refused" here. A key whose value is null counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import yaml

from gproxy.config.scalars import near, shown
from gproxy.errors import ConfigError, Problem

T = TypeVar("T")

MAX_VALUES = 200_000  # aliases let a small file stand for a huge one
MAX_SUGGESTIONS = 100  # difflib is slow, and nobody reads further

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")}
_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\{)")


@dataclass(slots=True)
class Report:
    """What one reading of a file found, and the environment that it may use."""

    source: str
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    values: int = 0

    def count(self, line: int) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            self.problems.append(Problem(line, "", f"stands for more than {MAX_VALUES} values"))
            raise ConfigError(self.source, self.problems)

    def suggest(self, word: str, options: list[str]) -> str:
        return near(word, options) if len(self.problems) < MAX_SUGGESTIONS else ""


@dataclass(frozen=True, slots=True)
class Value:
    """One node where it stands. Its line is its key's, which for a section is where the eye looks."""

    node: yaml.Node
    line: int
    path: str
    report: Report

    def refuse(self, message: str) -> None:
        self.report.problems.append(Problem(self.line, self.path, message))

    def warn(self, message: str) -> None:
        self.report.warnings.append(f"{self.report.source}:{self.line}: {self.path}: {message}")

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _TAG + "null"

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    def text(self) -> str:
        """The scalar's text, its variables replaced."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise ValueError(f"must be a single value, not {self._kind()}")
        if self.node.tag not in _PLAIN_TAGS:
            raise ValueError(f"has the unknown tag {shown(self.node.tag)}")
        if self.is_null:
            raise ValueError("must have a value")
        return _clean(expand(self.node.value, self.report.environ))

    def items(self) -> list[Value]:
        if not isinstance(self.node, yaml.SequenceNode) or self.node.tag != _TAG + "seq":
            raise ValueError(f"must be a list, not {self._kind()}")
        return [self._child(node, node, f"[{i}]") for i, node in enumerate(self.node.value)]

    def pairs(self) -> Iterator[tuple[str, Value]]:
        """Every key with its value; the keys that are not words are reported and left out."""
        if not isinstance(self.node, yaml.MappingNode) or self.node.tag != _TAG + "map":
            raise ValueError(f"must be a mapping of keys to values, not {self._kind()}")
        for key, node in self.node.value:
            word = attempt(self._child(key, key, ""), _key)
            if word is not None:
                yield word, self._child(node, key, _step(self.path, word))

    def _child(self, node: yaml.Node, place: yaml.Node, step: str) -> Value:
        line = place.start_mark.line + 1
        self.report.count(line)
        return Value(node, line, self.path + step, self.report)

    def _kind(self) -> str:
        if self.is_null:
            return "nothing"
        if self.node.tag not in _PLAIN_TAGS | {_TAG + "map", _TAG + "seq"}:
            return f"something tagged {shown(self.node.tag)}"
        return "a mapping" if self.is_mapping else "a list" if self.is_list else shown(self.node.value)


def _key(value: Value) -> str:
    """As it is written: variables stand in values only."""
    if not isinstance(value.node, yaml.ScalarNode):
        raise ValueError("has a list or a mapping for a key; a key is a word")
    return _clean(value.node.value)


def _step(path: str, key: str) -> str:
    shape = key if re.fullmatch(r"[\w:.\[\]-]{1,100}", key) else shown(key)
    return f".{shape}" if path else shape


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace ${NAME}, ${NAME:-default} and $$; what comes in is not looked at again."""

    def replacement(match: re.Match[str]) -> str:
        dollar, name, default = match.groups()
        if dollar:
            return "$"
        if not name:
            raise ValueError("has a '${' that is neither ${NAME} nor ${NAME:-default}; write $${ for the text itself")
        found = environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            raise ValueError(f"needs the environment variable {name}, which is not set; ${{{name}:-...}} has a default")
        return found

    return _VARIABLE.sub(replacement, text)


def _clean(text: str) -> str:
    """Text that can be written anywhere.

    JSON writes a character beyond 16 bits as two escapes, which YAML leaves apart.
    """
    if "\0" in text:
        raise ValueError("has a NUL character")
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError(f"is not Unicode text: {shown(text)}") from None


Reader = Callable[[Value], Any]
Table = Mapping[str, Reader]
NOWHERE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Scalar(Generic[T]):
    """A reader of a scalar, by the parser of its text."""

    parse: Callable[[str], T]

    def __call__(self, value: Value) -> T:
        return self.parse(value.text())


def scalar(parse: Callable[[str], T]) -> Scalar[T]:
    return Scalar(parse)


def attempt(value: Value, reader: Callable[[Value], T]) -> T | None:
    """What the reader makes of it, or None with the problem reported."""
    try:
        return reader(value)
    except ValueError as error:
        value.refuse(str(error))
        return None


@dataclass(slots=True)
class Section:
    """A mapping that was read: what is good, where everything stands, and what no check may rely on."""

    value: Value
    good: dict[str, Any] = field(default_factory=dict)
    where: dict[str, Value] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)

    def take(self, key: str, value: Value, reader: Reader) -> None:
        self.where[key] = value
        result = attempt(value, reader)
        if result is None:
            self.unsure.add(key)
        else:
            self.good[key] = result

    def refuse(self, key: str, message: str) -> None:
        """At the key if it was given, else at the section."""
        self.where.get(key, self.value).refuse(message)

    def require(self, key: str, example: str) -> None:
        if key not in self.where:
            self.value.refuse(f"needs the key {key!r}, such as {example}")

    def sure(self, *keys: str) -> bool:
        """Whether these were read well, or left to good defaults, so that they can be compared."""
        return not self.unsure.intersection(keys)

    def child(self, key: str) -> Section:
        """A section inside this one; an empty one where it was left out or refused."""
        found = self.good.get(key)
        return found if isinstance(found, Section) else Section(self.where.get(key, self.value))


def camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def walk(value: Value, table: Table, elsewhere: Mapping[str, str] = NOWHERE) -> Section:
    """Read a mapping; ``elsewhere`` has keys that are known but not for here, with the reason."""
    section = Section(value)
    spellings = {style(key): key for key in [*table, *elsewhere] for style in (str, camel)}
    seen: dict[str, tuple[str, int]] = {}
    for written, child in value.pairs():
        key = spellings.get(written)
        if key is None:
            section.unsure.add(written)
            child.refuse(_unknown(written, table, value.report))
        elif key in seen:
            child.refuse(f"duplicate key {written!r}; {seen[key][0]!r} stands on line {seen[key][1]} already")
        else:
            seen[key] = written, child.line
            _take(section, key, child, table, elsewhere)
    return section


def _take(section: Section, key: str, child: Value, table: Table, elsewhere: Mapping[str, str]) -> None:
    if child.is_null:
        return
    if key in elsewhere:
        section.take(key, child, _refuser(elsewhere[key]))
    else:
        section.take(key, child, table[key])


def _refuser(reason: str) -> Reader:
    def read(_: Value) -> None:
        raise ValueError(reason)

    return read


def _unknown(written: str, table: Table, report: Report) -> str:
    if written == "<<":
        return "merge keys are not supported; an alias (*name) for a whole value is"
    style = str if written.islower() else camel
    return f"unknown key {shown(written)}{report.suggest(written, [style(key) for key in table])}"


def walk_names(value: Value, reader: Callable[[str, Value], T]) -> dict[str, tuple[Value, T | None]]:
    """Read a mapping whose keys are the user's own names; None for one that was refused."""
    result: dict[str, tuple[Value, T | None]] = {}
    for name, child in value.pairs():
        if name in result:
            child.refuse(f"duplicate key {shown(name)}; the first stands on line {result[name][0].line}")
        else:
            result[name] = child, attempt(child, partial(reader, name))
    return result


def refuse_twins(named: list[tuple[Value, str]], what: str) -> None:
    """Report names that are one name to StatsD."""
    first: dict[str, str] = {}
    for value, name in named:
        metric = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        if metric not in first:
            first[metric] = name
            continue
        same = "the name" if first[metric] == name else f"to StatsD the same as {shown(first[metric])}, the name"
        value.refuse(f"{shown(name)} is {same} of another {what}")
