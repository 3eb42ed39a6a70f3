"""Bytes to nodes: what isn't a document at all, JSON, and files made to hurt."""

import json
import os
import time

import pytest

from gproxy.config import load, parse
from gproxy.errors import ConfigError

GOOD = """\
listeners:
  - {bind: "127.0.0.1:9000", upstream: app}
upstreams:
  app:
    backends: [127.0.0.1:9100]
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml", {})
    return str(caught.value)


def load_refusal(path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(str(path), {})
    assert [problem.line for problem in caught.value.problems] == [0]
    return str(caught.value)


def test_a_file_is_loaded(tmp_path):
    path = tmp_path / "gproxy.yaml"
    path.write_text(GOOD)
    assert load(str(path), {}) == parse(GOOD, "elsewhere", {})


def test_a_byte_order_mark_is_no_matter(tmp_path):
    path = tmp_path / "gproxy.yaml"
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    assert load(str(path), {}).upstream("app")


def test_a_missing_file(tmp_path):
    assert load_refusal(tmp_path / "none.yaml").endswith("none.yaml: can't be read: No such file or directory")


def test_a_directory(tmp_path):
    assert "can't be read: Is a directory" in load_refusal(tmp_path)


def test_a_file_without_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(ConfigError, match="can't be read: Permission denied"):
        load(str(tmp_path / "x"), {})


def test_a_path_that_no_file_can_have():
    assert "can't be read" in load_refusal("a\0b")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"listeners: \xff", "is not UTF-8 text (byte 11 is 0xff)"),
        ("listeners:".encode("utf-16"), "is not UTF-8 text (byte 0 is 0xff)"),
        (b"\x7fELF\x00\x01", "is not a text file"),
        (b"#" * (1 << 20) + b"#", "is larger than 1048576 bytes"),
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
    ],
)
def test_a_file_that_is_no_document(tmp_path, data, message):
    path = tmp_path / "f.yaml"
    path.write_bytes(data)
    assert message in load_refusal(path)


def test_an_endless_file_is_not_read_to_its_end():
    assert "is larger than" in load_refusal("/dev/zero")


def test_a_pipe_is_read_to_its_end():
    reader, writer = os.pipe()
    os.write(writer, GOOD.encode())
    os.close(writer)
    try:
        assert load(f"/dev/fd/{reader}", {}).upstream("app")
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n---\nb: 2\n", "f.yaml:2: has a second document"),
        ("a: b: c\n", "f.yaml:1: mapping values are not allowed here$"),
        ("a: [1\n", "f.yaml:2: while parsing a flow sequence"),
        ("a: 1\nb: \x01\n", "f.yaml:2: has a control character"),
        ("a: 1\nb: *nobody\n", "f.yaml:2: found undefined alias 'nobody'"),
        ("listeners:\n\t- x\n", "f.yaml:2: .*YAML is indented by spaces, not by tabs"),
        ("listeners:\n  - bind: [::]:9000\n", r'f.yaml:2: .*quote an IPv6 address, such as "\[::1\]:9000"'),
        ("backends:\n  - {name: ${N}, weight: 1}\n", r'f.yaml:2: .*quote a variable, such as "\$\{NAME\}"'),
        ('a: "\\Uffffffff"\n', "f.yaml: is not valid YAML"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1\n", "f.yaml: is not valid YAML"),
        ("just words", "f.yaml:1: must be a mapping of keys to values, not 'just words'"),
        ("[]", "f.yaml:1: must be a mapping of keys to values, not a list"),
        ("---\n...\n", "f.yaml:2: must be a mapping of keys to values, not nothing"),
        ("!!python/object:os.system {}", "not something tagged 'tag:yaml.org,2002:python/object:os.system'"),
    ],
)
def test_text_that_is_no_configuration(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text, "f.yaml", {})


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "{? ["])
def test_depth_is_refused_and_not_suffered(opening):
    started = time.process_time()
    assert "nested deeper than 32 levels" in refusal(opening * 100_000)
    assert time.process_time() - started < 10  # a hint's pattern once took minutes


def test_aliases_cannot_multiply_a_small_file_into_a_huge_one(monkeypatch):
    monkeypatch.setattr("gproxy.config.walk.MAX_VALUES", 2000)
    backends = "".join(f"  - h{i}:1\n" for i in range(100))
    upstreams = "".join(f"  u{i}: *u\n" for i in range(100))
    text = f"listeners: &b\n{backends}upstreams:\n  u: &u {{backends: *b}}\n{upstreams}"
    assert "stands for more than 2000 values" in refusal(text)


def test_a_text_that_is_too_long():
    assert refusal("#" * (1 << 20) + "#") == "f.yaml: is larger than 1048576 bytes"
    assert refusal("#" * (1 << 20)).startswith("f.yaml: is empty")


def test_a_value_inside_itself():
    assert "unknown key 'a'" in refusal("upstreams: &x {a: *x}\nlisteners: []")


def test_an_alias_stands_for_a_whole_value():
    text = GOOD.replace("[127.0.0.1:9100]", "&b [127.0.0.1:9100]") + "  two: {backends: *b}\n"
    config = parse(text, "f", {})
    assert config.upstream("two").backends == config.upstream("app").backends


def test_json_is_yaml():
    data = {"listeners": [{"bind": "a:1", "upstream": "app"}], "upstreams": {"app": {"backends": ["b:1"]}}}
    compact = parse(json.dumps(data, separators=(",", ":")), "f", {})
    assert compact == parse(json.dumps(data, indent=4), "f", {}) == parse(json.dumps(data, indent="\t"), "f", {})
    assert compact.upstream("app").backends[0].name == "b:1"


def test_a_line_of_tabbed_json_is_still_the_line():
    assert refusal('{\n\t"listenrs":\t1}').startswith(
        "f.yaml:1: needs the key 'listeners', such as [{bind: 127.0.0.1:9000, upstream: app}]\n"
        "f.yaml:1: needs the key 'upstreams', such as {app: {backends: [127.0.0.1:9100]}}\n"
        "f.yaml:2: listenrs: unknown key 'listenrs'; did you mean 'listeners'?"
    )


def test_json_writes_a_character_in_two_escapes():
    data = {
        "listeners": [{"bind": "a:1", "upstream": "\U0001f600"}],
        "upstreams": {"\U0001f600": {"backends": ["b:1"]}},
    }
    assert parse(json.dumps(data), "f", {}).listeners[0].upstream == "\U0001f600"


@pytest.mark.parametrize(("escape", "message"), [(r"\ud800", "is not Unicode text"), (r"\0", "has a NUL character")])
@pytest.mark.parametrize("place", ["a:1", "app"])
def test_text_that_could_not_be_written_again(place, escape, message):
    text = GOOD.replace("app:", f'"app{escape}":') if place == "app" else GOOD.replace("127.0.0.1:9000", escape)
    assert message in refusal(text)
