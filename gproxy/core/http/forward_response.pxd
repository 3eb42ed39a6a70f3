from gproxy.core.http.fields cimport FieldLine, Fields
from gproxy.core.http.options cimport Rules


cdef class ResponseBlock:
    cdef readonly int minor, status
    cdef readonly long long length
    cdef readonly bint keep_alive, interim, switching, has_date, plain, ready
    cdef readonly bytes reason, whole, start_and_fields
    cdef readonly Fields fields
    cdef readonly object framing, keep_alive_timeout
    cdef bytes _unframed
    cdef object _announced

    cdef bytes _field_lines(self, Rules rules)
