from gproxy.http.context cimport HttpContext


cdef class HttpService(HttpContext):
    pass
