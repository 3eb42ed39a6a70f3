from gproxy.net.pool cimport ConnectionPool, PooledConnection
from gproxy.net.relay cimport Relay


cdef class TcpSession:
    cdef public object _client, _code, _greenlet, _peer, _quiet_timer, _search, _service, _watch
    cdef public double _started
    cdef public Relay _relay
    cdef public long long _bytes_in, _bytes_out

    cpdef _relay_to(self, PooledConnection connection)
    cpdef _finish(self, code)
    cpdef _count_bytes(self, Relay relay)
