cdef class FieldLine:
    cdef readonly bytes name, value, key, canonical, wire
    cdef readonly bint forwarding


cdef class Fields:
    cdef readonly tuple known
    cdef readonly dict index

    cpdef get(self, bytes name)
    cpdef list values(self, bytes name)
    cpdef list tokens(self, bytes name)
