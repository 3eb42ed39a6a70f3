"""What loadtest/chaos.py is made of.

settings.py       gproxy's configuration, by the seed
origin.py         a backend, a process of its own; origins.py starts, kills and freezes it
journal.py        what all backends executed
stage.py          what an actor of a phase gets: where to, until when, how rough
http_clients.py, tcp_clients.py    clients
faults.py         those who break things
proxy.py          gproxy, its processes and its admin API
checks.py         the invariants
memory.py         the memory curve, and whether something leaks
program.py        cycles: rough, idle, calm, idle
document.py       a report as a section of the manual
"""
