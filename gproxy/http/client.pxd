from gproxy.http.context cimport HttpContext
from gproxy.net.stream cimport Stream


cdef class ClientSide:
    cdef public bytes data, lines
    cdef public bint finished, unread, closing, trusted
    cdef public long tries
    cdef public object phase, greenlet, lent, block, cut_off
    cdef public Stream backend_stream, client
    cdef public long long sent_before
    cdef public HttpContext context
    cdef public object peer, peer_name, name, route_request, timeouts
    cdef public double started, began, read_at, _looked_at
    cdef public object _look

    cpdef remember(self, block)
    cpdef _spoke(self)
    cpdef resume(self)
