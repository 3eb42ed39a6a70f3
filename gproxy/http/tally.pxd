cdef class PlainTally:
    cdef public list waiting
    cdef public object _stories, _view, _response_time
    cdef public long _base

    cpdef add_up(self)
