from gproxy.http.client cimport ClientSide
from gproxy.http.context cimport HttpContext
from gproxy.net.pool cimport PooledConnection
from gproxy.net.stream cimport Stream
from gproxy.search cimport Search


cdef class Exchange:
    cdef public long status
    cdef public object response_at, upload, told
    cdef public Search search
    cdef public long long bytes_out, bytes_in
    cdef public bytes asked, tail, _head
    cdef public Stream _backend_stream
    cdef public ClientSide _client
    cdef public HttpContext _context
    cdef public object _handover
    cdef public object method, target, block, request_id
    cdef public double began, read_at
    cdef public bint head_only
