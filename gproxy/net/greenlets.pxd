cdef class Greenlets:
    cdef public object _hub
    cdef public list _resting
    cdef public bint _open

    cpdef _one(self)
