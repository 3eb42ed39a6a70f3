from gproxy.core.http.fields cimport FieldLine, Fields
from gproxy.core.http.options cimport Rules


cdef class RequestBlock:
    cdef readonly int minor
    cdef readonly bint bodiless, quick, plain, keep_alive, expects_continue
    cdef readonly Fields fields
    cdef readonly bytes host, upgrade, request_id, end_to_end
    cdef readonly tuple forwarded_for
    cdef readonly object framing
    cdef bytes _host_rule, _other_lines

    cdef bytes _lines(self, options)
