"""A spike: a tenth of the users, then all of them at once in the middle third of the time, then a tenth again."""

from locust import constant_throughput, task
from objectives import Objectives, hold
from profiles import Profile
from visitor import Visitor

CALM = 0.1

hold(Objectives(errors=0.001, p50=1000, p95=5000))


class Reader(Visitor):
    wait_time = constant_throughput(2)

    @task
    def read(self) -> None:
        self.page()


class Spike(Profile):
    def tick(self) -> tuple[int, float] | None:
        third, users = self.part(3), int(self.options.num_users)
        if third == 3:
            return None
        return users if third == 1 else max(1, round(CALM * users)), users  # that many come, or go, in a second
