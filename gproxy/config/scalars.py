"""One scalar's text to a value. Pure; a ValueError says what is wrong, in words for an operator.

A parser gets text and never what YAML made of it, so that a quoted "5", a bare 5 and
${FIVE} are the same, and YAML 1.1's surprises (``off``, ``1:30``, ``010``) can't happen.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

from gproxy.core.address import Address, parse_address

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

MIN_DURATION = 0.001
MAX_DURATION = 365 * 86400.0
MAX_SIZE = 1 << 40
MAX_NAME = 100
MIN_TOKEN, MAX_TOKEN = 16, 200
MAX_ADDRESS = 300  # a host name has 253, a unix path 107

_DURATION = re.compile(r"((?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?)(ms|s|m|h|d)?")
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,15})(B|KiB|MiB|GiB|KB|MB|GB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1000, "MB": 1000**2, "GB": 1000**3}
_WHOLE = re.compile(r"0|[1-9][0-9]{0,15}")
_STATUS = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{MIN_TOKEN},{MAX_TOKEN}}}")  # RFC 6750, section 2.1
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Parser(Generic[T]):
    """One that was made for some values, and can name them: for the reference of keys."""

    parse: Callable[[str], T]
    values: str

    def __call__(self, text: str) -> T:
        return self.parse(text)


def shown(text: str) -> str:
    """Quoted, escaped and clipped, so that a message stays one line of text."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def near(word: str, options: Iterable[str]) -> str:
    """``; did you mean 'weight'?``, or nothing where no option is near."""
    found = difflib.get_close_matches(word, options, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def boolean(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f"must be true or false, not {shown(text)}")
    return _TRUTH[text.lower()]


def whole(minimum: int, maximum: int) -> Parser[int]:
    """A parser of whole numbers between the two, both included."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not minimum <= int(text) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}{_no_zero(text)}, not {shown(text)}")
        return int(text)

    return Parser(parse, f"{minimum} to {maximum}")


def _no_zero(text: str) -> str:
    return " without a leading zero" if re.fullmatch(r"0[0-9]+", text) else ""


def duration(text: str) -> float:
    """Seconds, from 1 ms to a year."""
    seconds = _seconds(text)
    if not MIN_DURATION <= seconds <= MAX_DURATION:
        raise ValueError(f"must be a duration from 1ms to 365d, not {shown(text)}")
    return seconds


def duration_or_zero(text: str) -> float:
    """Seconds; 0 means at once."""
    return 0.0 if _seconds(text) == 0 else duration(text)


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"must be a duration such as 5, 500ms, 5s, 2m, 1h or 1d, not {shown(text)}")
    return float(match[1]) * _SECONDS[match[2]]


def size(text: str) -> int:
    """Bytes, up to a tebibyte."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"must be a size such as 65536, 64KiB, 1MiB or 64KB, not {shown(text)}")
    result = int(match[1]) * _BYTES[match[2]]
    if not 0 < result <= MAX_SIZE:
        raise ValueError(f"must be a size from 1 byte to 1024GiB, not {shown(text)}")
    return result


def size_between(least: str, most: str) -> Parser[int]:
    """A parser of sizes between the two, both included."""
    minimum, maximum = size(least), size(most)

    def parse(text: str) -> int:
        found = size(text)
        if not minimum <= found <= maximum:
            raise ValueError(f"must be a size from {least} to {most}, not {shown(text)}")
        return found

    return Parser(parse, f"{least} to {most}")


def choice(options: Mapping[str, T], refused: Mapping[str, str] | None = None) -> Parser[T]:
    """A parser of a few words; ``refused`` has words that are known but not for here, with the reason."""

    def parse(text: str) -> T:
        if text in options:
            return options[text]
        if refused and text in refused:
            raise ValueError(refused[text])
        raise ValueError(f"must be one of {', '.join(options)}, not {shown(text)}{near(text, options)}")

    return Parser(parse, ", ".join(f"`{option}`" for option in options))


def words(*options: str) -> dict[str, str]:
    """Words that mean themselves, as ``choice`` takes them."""
    return dict(zip(options, options, strict=True))


def members(*options: E) -> dict[str, E]:
    """Enum members by their values, as ``choice`` takes them."""
    return {str(option.value): option for option in options}


def name(text: str) -> str:
    """A name that can stand in a log line, beside a slash, and in a URL, where dots alone would be steps."""
    if not text or len(text) > MAX_NAME:
        raise ValueError(f"must be a name of 1 to {MAX_NAME} characters, not {shown(text)}")
    if "/" in text or " " in text or not text.isprintable():
        raise ValueError(f"must be a name without white space, control characters or '/', not {shown(text)}")
    if text in (".", ".."):
        raise ValueError(f"must be a name with more than dots, not {shown(text)}")
    return text


def printable(text: str) -> str:
    """Text for one line of a request: not empty, ASCII, no blanks."""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be ASCII text without blanks, not {shown(text)}")
    return text


def url_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"must start with '/', such as /health, not {shown(text)}")
    return printable(text)


def some_text(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def dotted_name(text: str) -> str:
    """``package.module:function``; only its form, the caller imports it."""
    module, colon, function = text.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
        raise ValueError(f"must be a function such as package.module:choose, not {shown(text)}")
    return text


def address(text: str) -> Address:
    """Where to listen; port 0 lets the kernel choose."""
    if re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"needs a host before the port, such as 127.0.0.1:{text}")
    if len(text) > MAX_ADDRESS or not text.isprintable() or " " in text:
        raise ValueError(f"must be an address without blanks, such as 127.0.0.1:9100, not {shown(text)}")
    return parse_address(text)


def dialled_address(text: str) -> Address:
    found = address(text)
    if not found.is_unix and found.port == 0:
        raise ValueError("can't have port 0; a backend listens on a port from 1 to 65535")
    return found


def same_place(place: Address) -> str:
    """The address in one spelling, to find an address given twice."""
    if place.is_unix:
        return str(place)
    try:
        host = ipaddress.ip_address(place.host).compressed
    except ValueError:
        host = place.host.lower().removesuffix(".")
    return f"{host} {place.port}"


def host(text: str) -> str:
    """A host alone, where the port has a key of its own."""
    if text.count(":") == 1:
        raise ValueError(f"must be a host without a port, not {shown(text)}")
    bare = text.removeprefix("[").removesuffix("]")
    return address(f"[{bare}]:1" if ":" in bare else f"{bare}:1").host


def network(text: str) -> IPv4Network | IPv6Network:
    """A network, or an address for itself alone."""
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"must be a network or an address, such as 10.0.0.0/8 or ::1, not {shown(text)}") from None
    if "%" in text or found.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"must be a network, not {shown(text)}; did you mean {_bare(found)!r}?")
    return _as_ipv4(found)


def _bare(found: IPv4Network | IPv6Network) -> str:
    return re.sub("%[^/]*", "", str(found))


def _as_ipv4(found: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Clients are known by their IPv4 address, even where the kernel says ::ffff:10.0.0.1."""
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    return IPv4Network((mapped, found.prefixlen - 96)) if mapped else found


def is_loopback(place: Address) -> bool:
    """Whether only this machine can reach it."""
    if place.is_unix or place.host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(place.host).is_loopback
    except ValueError:
        return False


def admin_token(text: str) -> str:
    """A secret for a header's field: no message may show it."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"must be {MIN_TOKEN} to {MAX_TOKEN} letters, digits and any of -._~+/=")
    return text


def statsd_prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(
            f"must be of letters, digits, '_', '-' and single dots, such as team.gproxy, not {shown(text)}"
        )
    return text


def access_log(text: str) -> str:
    """off, - or a path. YAML's other spellings of off can't be meant for a path."""
    truth = _TRUTH.get(text.lower())
    if truth is False:
        return "off"
    if truth or not text or text.endswith("/"):
        raise ValueError(f"must be off, - for standard output, or the path of a file, not {shown(text)}")
    return text


def pid_file(text: str) -> str:
    """A path. YAML's words for truth can't be meant for one."""
    if text.lower() in _TRUTH or not text or text.endswith("/"):
        raise ValueError(f"must be the path of a file, not {shown(text)}; leave it out for none")
    return text


def status_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """``200-299,404`` as ((200, 299), (404, 404))."""
    return tuple(_status_range(part.strip()) for part in text.split(","))


def _status_range(text: str) -> tuple[int, int]:
    match = _STATUS.fullmatch(text)
    if not match or (match[2] and match[2] < match[1]):
        raise ValueError(f"must be statuses from 100 to 599, such as 200, 200-399 or 200-299,404, not {shown(text)}")
    return int(match[1]), int(match[2] or match[1])
