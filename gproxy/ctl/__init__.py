"""What an operator runs beside gproxy: programs that talk to its admin API, and to nothing else.

client.py    one request to the API and its document, over TCP or a unix socket
target.py    where the API is: options, configuration, environment
"""
