"""For all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("gproxy", deadline=None)  # machines are busy: a test never asserts a time
settings.load_profile("gproxy")
