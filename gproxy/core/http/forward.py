"""What the session calls to forward messages, in one place.

| module | |
|---|---|
| end_to_end.py | which fields and trailers are forwarded |
| options.py | the settings, the rules of the operator among them |
| forward_request.py | a request's head: what is worked out once for each block, and what for each request |
| client_lines.py | the forwarding fields |
| targets.py | absolute-form targets, `OPTIONS *`, CONNECT |
| forward_response.py | a response's head |
| cookies.py | cookies and hash keys |
"""

from __future__ import annotations

from gproxy.core.http.client_lines import client_lines
from gproxy.core.http.cookies import cookie_value, hash_key, set_cookie, sticky_token
from gproxy.core.http.end_to_end import end_to_end_trailers
from gproxy.core.http.forward_request import RequestBlock, request_bytes
from gproxy.core.http.forward_response import ResponseBlock
from gproxy.core.http.options import NO_REQUEST_RULE, NO_RESPONSE_RULE, ForwardOptions, forward_options
from gproxy.core.http.targets import resolve_target

__all__ = [
    "NO_REQUEST_RULE",
    "NO_RESPONSE_RULE",
    "ForwardOptions",
    "RequestBlock",
    "ResponseBlock",
    "client_lines",
    "cookie_value",
    "end_to_end_trailers",
    "forward_options",
    "hash_key",
    "request_bytes",
    "resolve_target",
    "set_cookie",
    "sticky_token",
]
