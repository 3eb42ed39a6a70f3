"""Steady HTTP: every visitor asks for five pages in a second."""

from locust import constant_throughput, task
from objectives import Objectives, hold
from visitor import Visitor

hold(Objectives(errors=0.0, p50=250, p95=1000, p99=3000))


class Reader(Visitor):
    wait_time = constant_throughput(5)

    @task
    def read(self) -> None:
        self.page()
