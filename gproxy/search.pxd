from gproxy.net.pool cimport ConnectionPool, PooledConnection
from gproxy.stories cimport Course


cdef class Search(Course):
    cdef public PooledConnection connection
    cdef public object _picked, _service, _request, _client, target
    cdef public double began

    cpdef over(self)
    cpdef _route(self)
    cpdef PooledConnection _borrow(self, backend, bint fresh)
