"""One scalar's text to a value."""

import pytest

from gproxy.config import scalars
from gproxy.core.address import Address

DAY = 86400.0


def refusal(parse, text: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5), ("0.25", 0.25), ("1e3", 1000), ("500ms", 0.5), ("1.5s", 1.5),
        ("2m", 120), ("1h", 3600), ("1d", DAY), ("365d", 365 * DAY), ("1ms", 0.001),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert scalars.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "s", "5 s", "5S", "1m30s", "1:30", "010", "05s", "1_000", "0x10", "-5", "+5", "-0", ".inf", "inf", "nan",
     ".nan", "true", "5sec", "١", "5\n", "1e9999"],
)  # fmt: skip
def test_text_that_is_no_duration(text):
    assert "must be a duration such as 5, 500ms, 5s, 2m, 1h or 1d" in refusal(scalars.duration, text)


@pytest.mark.parametrize("text", ["0", "0.0s", "0.9ms", "1e-300", "366d", "1e300", "1e999d", "9" * 5000])
def test_durations_out_of_bounds(text):
    assert "must be a duration from 1ms to 365d" in refusal(scalars.duration, text)


def test_zero_where_zero_means_something():
    assert scalars.duration_or_zero("0") == scalars.duration_or_zero("0ms") == 0
    assert scalars.duration_or_zero("2s") == 2
    assert "from 1ms" in refusal(scalars.duration_or_zero, "0.1ms")


@pytest.mark.parametrize(
    ("text", "count"),
    [("65536", 65536), ("1B", 1), ("64KiB", 65536), ("1MiB", 1 << 20), ("1GiB", 1 << 30), ("64KB", 64000),
     ("2MB", 2_000_000), ("1GB", 10**9), ("1024GiB", 1 << 40)],
)  # fmt: skip
def test_sizes(text, count):
    assert scalars.size(text) == count


@pytest.mark.parametrize("text", ["", "64 KiB", "64kib", "64K", "0x10", "010", "-1", "1.5MiB", "1:30", "nan", "9" * 99])
def test_text_that_is_no_size(text):
    assert "must be a size such as" in refusal(scalars.size, text)


@pytest.mark.parametrize("text", ["0", "0KiB", "1025GiB", "9" * 16])
def test_sizes_out_of_bounds(text):
    assert "must be a size from 1 byte to 1024GiB" in refusal(scalars.size, text)


def test_whole_numbers_with_their_bounds():
    parse = scalars.whole(1, 10)
    assert [parse("1"), parse("10")] == [1, 10]
    assert refusal(parse, "11") == "must be a whole number from 1 to 10, not '11'"
    assert refusal(parse, "010") == "must be a whole number from 1 to 10 without a leading zero, not '010'"


@pytest.mark.parametrize(
    "text", ["0", "-1", "1.0", "1e0", "true", "", " 1", "0x1", "0b1", "1_0", "1:30", "9" * 5000, "٣"]
)
def test_text_that_is_no_whole_number_from_1(text):
    assert "must be a whole number from 1 to 100" in refusal(scalars.whole(1, 100), text)


def test_a_message_stays_short_and_of_one_line():
    assert refusal(scalars.boolean, "x" * 1000) == f"must be true or false, not '{'x' * 57}...'"
    assert refusal(scalars.boolean, "\n\x1b\ud800") == r"must be true or false, not '\n\x1b\ud800'"


@pytest.mark.parametrize(
    ("text", "truth"), [("true", True), ("YES", True), ("on", True), ("off", False), ("No", False)]
)
def test_booleans(text, truth):
    assert scalars.boolean(text) is truth


@pytest.mark.parametrize("text", ["", "1", "0", "y", "t"])
def test_text_that_is_no_boolean(text):
    assert "must be true or false" in refusal(scalars.boolean, text)


def test_a_choice_suggests_and_explains():
    parse = scalars.choice({"reset": 1, "close": 2}, {"503": "only for http"})
    assert parse("close") == 2
    assert refusal(parse, "503") == "only for http"
    assert refusal(parse, "rset") == "must be one of reset, close, not 'rset'; did you mean 'reset'?"
    assert refusal(parse, "") == "must be one of reset, close, not ''"


@pytest.mark.parametrize("text", ["web", "127.0.0.1:9100", "café", "a_b-c.d", "x" * 100])
def test_names(text):
    assert scalars.name(text) == text


@pytest.mark.parametrize(
    "text", ["", "a b", "a/b", "a\tb", "a\nb", "a\x7f", "a\u00a0b", "a\u2028b", "x" * 101, ".", ".."]
)
def test_text_that_is_no_name(text):
    assert "must be a name" in refusal(scalars.name, text)


def test_addresses():
    assert scalars.address("[::]:0") == Address("::", 0)
    assert scalars.address("unix:/run/a.sock") == Address(path="/run/a.sock")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9000", "needs a host before the port, such as 127.0.0.1:9000"),
        ("localhost", "needs a port, such as localhost:9100"),
        ("::1:9000", "stands in brackets"),
        ("a:65536", "from 0 to 65535"),
        ("unix:run", "absolute path"),
        ("unix:/a b", "without blanks"),
        ("unix:/a\nb", "without blanks"),
        ("a" * 1000 + ":1", "without blanks"),
    ],
)
def test_text_that_is_no_address(text, message):
    assert message in refusal(scalars.address, text)
    assert len(refusal(scalars.address, text)) < 200


def test_a_backend_needs_a_port_to_dial():
    assert scalars.dialled_address("a:1").port == 1
    assert scalars.dialled_address("unix:/a").is_unix
    assert "can't have port 0" in refusal(scalars.dialled_address, "a:0")


@pytest.mark.parametrize(
    ("one", "other"), [("A.example:1", "a.EXAMPLE.:1"), ("[::1]:1", "[0:0::1]:1"), ("unix:/a", "unix:/a")]
)
def test_one_place_in_two_spellings(one, other):
    assert scalars.same_place(scalars.address(one)) == scalars.same_place(scalars.address(other))


def test_two_places():
    texts = ["a:1", "a:2", "b:1", "unix:/a", "unix:/A"]
    assert len({scalars.same_place(scalars.address(text)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("stats.example", "stats.example")],
)
def test_hosts(text, found):
    assert scalars.host(text) == found


@pytest.mark.parametrize("text", ["", "a:8125", "127.0.0.1:8125", "[::1]:8125", "a b", "300.1.1.1", "unix:/a"])
def test_text_that_is_no_host(text):
    refusal(scalars.host, text)


def test_statsd_prefixes():
    assert scalars.statsd_prefix("team.gproxy-1") == "team.gproxy-1"


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "a b", "a:b", "a|b", "é", "a\n"])
def test_text_that_is_no_statsd_prefix(text):
    assert "single dots" in refusal(scalars.statsd_prefix, text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("off", "off"), ("false", "off"), ("No", "off"), ("-", "-"), ("/var/log/a.log", "/var/log/a.log")],
)
def test_access_logs(text, found):
    assert scalars.access_log(text) == found


@pytest.mark.parametrize("text", ["on", "true", "", "/var/log/"])
def test_text_that_is_no_access_log(text):
    assert "must be off, - for standard output, or the path of a file" in refusal(scalars.access_log, text)


@pytest.mark.parametrize(
    ("text", "ranges"),
    [("200", ((200, 200),)), ("200-399", ((200, 399),)), ("200-299, 404", ((200, 299), (404, 404)))],
)
def test_statuses(text, ranges):
    assert scalars.status_ranges(text) == ranges


@pytest.mark.parametrize("text", ["", "99", "600", "399-200", "200-", "200,", "2xx", "200 - 300", "200-300-400"])
def test_text_that_is_no_status(text):
    assert "must be statuses from 100 to 599" in refusal(scalars.status_ranges, text)


@pytest.mark.parametrize("text", ["", "a", "a:", ":b", "a.b", "a b:c", "a..b:c", "a:b:c", "a:b()", "1a:b", "a/b:c"])
def test_text_that_is_no_function(text):
    assert "must be a function such as package.module:choose" in refusal(scalars.dotted_name, text)


def test_functions():
    assert scalars.dotted_name("pkg.mod:Policy.choose") == "pkg.mod:Policy.choose"


@pytest.mark.parametrize("text", ["", "health", "/a b", "/a\r\nHost: x", "/é"])
def test_text_that_is_no_url_path(text):
    refusal(scalars.url_path, text)


def test_url_paths_and_host_headers():
    assert scalars.url_path("/health?full=1") == "/health?full=1"
    assert scalars.printable("app.example:80") == "app.example:80"
