"""A file's bytes to one YAML node tree, within bounds.

The nodes, and not the values that PyYAML would make of them, because a node knows its
line and its text: ``off`` stays ``off`` and ``010`` stays ``010``, and the reader that
knows what a key means decides.

PyYAML's own composer, not libyaml's: that one recurses on the C stack, so a file of
many open brackets ends the process with a segmentation fault. The price is some 2 s
for the largest file, once at the start.
"""

from __future__ import annotations

import json
import re

import yaml

from gproxy.errors import ConfigError, Problem

MAX_BYTES = 1 << 20  # some 20,000 backends
MAX_DEPTH = 32  # a real file needs 6
MAX_ROW = 200  # looked at for a hint; the patterns are quadratic

_BARE_IPV6 = re.compile(r"(?<![\"'\w])\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]:\d")
_BARE_IPV6_IN_LIST = re.compile(r"[\[,] *:[0-9A-Fa-f:]")
_BARE_WILDCARD = re.compile(r"[ \[]\*\.")


def read_text(path: str) -> str:
    """The file's text; ConfigError for one that can't be read or isn't UTF-8."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refusal(path, 0, f"can't be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise _refusal(path, 0, f"can't be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise _refusal(path, 0, f"is larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refusal(path, 0, f"is not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x})") from error


def compose(text: str, source: str) -> yaml.Node:
    """The only document in the text; ConfigError for anything else."""
    _check_text(text, source)
    try:
        node = _compose_yaml_or_json(text)
    except RecursionError as error:
        raise _refusal(source, 0, "is nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        raise _marked_refusal(source, text, error) from error
    except yaml.reader.ReaderError as error:
        raise _refusal(source, _line_at(text, error.position), "has a control character") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError) as error:
        # PyYAML lets a few through that are not its own, such as OverflowError for "\UFFFFFFFF".
        raise _refusal(source, 0, f"is not valid YAML: {error}") from error
    if node is None:
        raise _refusal(source, 0, "is empty; a configuration needs listeners and upstreams")
    return node


def _check_text(text: str, source: str) -> None:
    if "\0" in text:
        raise _refusal(source, 0, "is not a text file")
    if len(text) > MAX_BYTES:
        raise _refusal(source, 0, f"is larger than {MAX_BYTES} bytes")


def _compose_yaml_or_json(text: str) -> yaml.Node | None:
    """JSON is YAML but for its tabs. In valid JSON they stand outside of strings only, so a space will do."""
    try:
        return _compose_yaml(text)
    except yaml.YAMLError:
        if "\t" in text and _is_json(text):
            return _compose_yaml(text.replace("\t", " "))
        raise


def _is_json(text: str) -> bool:
    try:
        json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return False
    return True


def _compose_yaml(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Composes only, and refuses depth before Python's stack does."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _marked_refusal(source: str, text: str, error: yaml.MarkedYAMLError) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    return _refusal(source, line, _yaml_message(error) + _hint(text, line))


def _yaml_message(error: yaml.MarkedYAMLError) -> str:
    if error.problem == "but found another document":
        return "has a second document; a configuration is one document"
    return ", ".join(part for part in (error.context, error.problem) if part)


def _hint(text: str, line: int) -> str:
    """What the operator most likely meant, where YAML's own words don't help."""
    lines = text.splitlines()
    row = lines[line - 1][:MAX_ROW] if 0 < line <= len(lines) else ""
    if _BARE_IPV6.search(row):
        return '; quote an IPv6 address, such as "[::1]:9000"'
    if _BARE_IPV6_IN_LIST.search(row):
        return '; quote an IPv6 address, such as "::1"'
    if _BARE_WILDCARD.search(row):
        return '; quote a host that begins with a star, such as "*.example"'
    if row[: len(row) - len(row.lstrip())].count("\t"):
        return "; YAML is indented by spaces, not by tabs"
    if re.search(r"[{,\[].*\$\{", row):
        return '; inside braces or brackets quote a variable, such as "${NAME}"'
    return ""


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _refusal(source: str, line: int, message: str) -> ConfigError:
    return ConfigError(source, [Problem(line, "", message)])
