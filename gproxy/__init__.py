"""gproxy: a TCP and HTTP/1.1 load balancer in Python on gevent."""

__version__ = "0.1.0"
