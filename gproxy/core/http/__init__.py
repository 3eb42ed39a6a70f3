"""HTTP/1.1 as pure functions of bytes: heads, framing, bodies, what is forwarded, routes (RFC 9110, 9112)."""
