cdef class Service:
    cdef public object name, router, metrics, stats, sessions, servers, access_log, clock, stories, server
    cdef public bint draining

    cpdef opened(self, session)
    cpdef closed(self, session)
