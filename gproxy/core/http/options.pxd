cdef class Rules:
    cdef readonly bytes added
    cdef readonly object gone, ruled
    cdef readonly bint sets_date
    cdef readonly tuple via
