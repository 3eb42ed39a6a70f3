"""The admin interface: what the steward tells Prometheus and operators, and takes from them.

prometheus.py   counters -> the text that Prometheus scrapes
routes.py       the table of all there is: method, path, who answers, what with
app.py          WSGI: from a request to an entry of the table, or to why not
guard.py        who may ask: token, Host, other sites
state.py        what is: documents for reads
changes.py      what is to be: writes
openapi.py      the table as an OpenAPI document
server.py       sockets and bounds
page.py         the dashboard, a page with scripts (static/)
history.py      the last ten minutes, a sample every other second
flips.py        the last changes
recorder.py     keeps both, and hands them over to the next steward (keepsake.py)
streams.py      tells clients what is new
"""
