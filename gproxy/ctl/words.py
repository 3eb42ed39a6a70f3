"""Numbers and states in a few letters."""

from __future__ import annotations

from typing import Any, Final

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_STEPS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def span(seconds: float) -> str:
    """`0.3 s`, `42 s`, `3 h 12 min`: two units at the most."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    words: list[str] = []
    left = int(seconds)
    for size, unit in _UNITS:
        if left >= size or (unit == "s" and not words):
            words.append(f"{left // size} {unit}")
            left %= size
        elif words:
            break
    return " ".join(words[:2])


def brief(number: float) -> str:
    """At most five letters, three digits: `0`, `0.4`, `17`, `999`, `1.02k`, `31.4M`."""
    if number < 999.5:
        return f"{number:.1f}" if 0 < number < 9.95 else f"{number:.0f}"
    size, unit = next((size, unit) for size, unit in _STEPS if number >= size * 0.9995)
    return f"{number / size:.3g}{unit}"


def byte_rate(number: float) -> str:
    """`940 B/s`, `31.4 MB/s`."""
    text = brief(number)
    return f"{text} B/s" if text[-1].isdigit() else f"{text[:-1]} {text[-1]}B/s"


def duration(seconds: float) -> str:
    """Three digits: `417 us`, `1.2 ms`, `3.4 s`."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size * 0.9995:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def limited(number: int, limit: int | None) -> str:
    return str(number) if limit is None else f"{number}/{limit}"


def standing(backend: dict[str, Any], workers: int = 0) -> str:
    """A backend's state: `up`, `down, maint`, `up, ejected 1/2` where not all of so many workers have it ejected."""
    words = [backend["operational"]]
    if backend["administrative"] != "ready":
        words.append(backend["administrative"])
    if backend["ejected"]:
        words.append(f"ejected {backend['ejected']}/{workers}" if backend["ejected"] < workers else "ejected")
    return ", ".join(words)


def printable(text: str) -> str:
    """A line in which nothing stands that a terminal obeys."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
