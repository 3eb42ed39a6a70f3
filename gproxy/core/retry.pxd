cdef class RetryBudget:
    cdef public long pending, _second, _requests, _retries
    cdef public list _requests_in, _retries_in

    cpdef request(self, double now)
    cpdef look(self, double now)
    cpdef long _slot(self, double now) except -1
