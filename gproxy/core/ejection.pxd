cdef class Ejection:
    cdef public long errors, failures, times
    cdef public double until, _lasted
