cdef class Limit:
    cdef public object _others_near, _relieve, elsewhere, view
    cdef public long active, margin, most, near, room, slot

    cpdef bint nearly_reached(self) except -1
