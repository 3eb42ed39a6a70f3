"""Pages and small uploads, while scenarios.py kills a backend and starts it again.

gproxy repeats a page's request elsewhere. An upload that a backend had when it died can't be repeated: it is an error.
"""

from locust import constant_throughput, task
from objectives import Objectives, hold
from visitor import Visitor

FORM = bytes(range(256)) * 8

hold(Objectives(errors=0.01, p50=500, p95=2000))


class Customer(Visitor):
    wait_time = constant_throughput(5)

    @task(9)
    def read(self) -> None:
        self.page()

    @task(1)
    def submit(self) -> None:
        self.send(FORM, "upload, 2 KiB")
