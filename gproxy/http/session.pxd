from gproxy.http.client cimport ClientSide
from gproxy.http.context cimport HttpContext
from gproxy.http.exchange cimport Exchange


cdef class HttpSession(ClientSide):
    cdef public Exchange exchange
    cdef public object code, _tunnel
    cdef public bytes _method, _asked

    cpdef bint _converse(self) except -1
    cpdef bint _serve_next(self) except -1
    cpdef bint _serve_any(self) except -1
    cpdef long _read_head(self) except -1
    cpdef _over(self, Exchange exchange, code)
    cpdef _close(self)
    cpdef _ended(self, code)
