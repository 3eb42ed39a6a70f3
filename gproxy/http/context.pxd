from gproxy.service cimport Service


cdef class HttpContext(Service):
    cdef public object serve_plain, settings, answers, routes, limits, options, default
    cdef public bint explains, plain
    cdef public object requests, responses, _lines
    cdef public object _targets, _ids
    cdef public bytes _id_prefix, _date
    cdef public long _date_second

    cpdef bytes new_id(self)
