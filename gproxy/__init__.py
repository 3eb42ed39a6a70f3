"""gproxy: a TCP load balancer in Python on gevent."""

__version__ = "0.1.0"
