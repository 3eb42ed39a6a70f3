"""A staircase: five steps up to all users, each as long as the others."""

from locust import constant_throughput, task
from objectives import Objectives, hold
from profiles import Profile
from visitor import Visitor

STEPS = 5

hold(Objectives(errors=0.0, p50=500, p95=2000))


class Reader(Visitor):
    wait_time = constant_throughput(2)

    @task
    def read(self) -> None:
        self.page()


class Staircase(Profile):
    def tick(self) -> tuple[int, float] | None:
        step, users = self.part(STEPS), int(self.options.num_users)
        if step == STEPS:
            return None
        return max(1, users * (step + 1) // STEPS), float(self.options.spawn_rate)
