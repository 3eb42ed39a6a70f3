"""Mechanism on gevent: accepting, dialling, relaying, pooling. Knows no HTTP, YAML or balancing."""
