cdef class Histogram:
    cdef public object _view
    cdef public long _base

    cpdef record(self, double seconds)
