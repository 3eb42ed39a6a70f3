cdef class Course:
    cdef public object backend, routed_at, connected_at, choice, missed, idle, upstream
    cdef public tuple tried, earlier
    cdef public long retries, uses
    cdef public object failure
