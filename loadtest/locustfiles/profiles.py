"""What the load shapes have in common: --run-time in equal parts, --users as their height."""

from __future__ import annotations

import time
from argparse import Namespace

from locust import LoadTestShape


class Profile(LoadTestShape):
    abstract = True
    use_common_options = True

    @property
    def options(self) -> Namespace:
        assert self.runner is not None
        options: Namespace | None = self.runner.environment.parsed_options
        assert options is not None
        return options

    def part(self, parts: int) -> int:
        """Of so many, the one that is now, from 0 on; `parts` when the time is over."""
        elapsed = time.perf_counter() - float(self.start_time)
        return min(parts, int(elapsed / self.options.run_time * parts))
