cdef class _Share:
    cdef public object credit, weight
    cdef public long index, last


cdef class RoundRobin:
    cdef public object scored, _seen, _ring
    cdef public dict _known
    cdef public list _shares, _weights
    cdef public long _picks
