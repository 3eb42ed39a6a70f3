cdef class Stream:
    cdef public long long received, sent
    cdef public bint watching
    cdef public object idle_callback, sock, hub
    cdef public object _reader, _reading, _writing, _writer, _poll

    cpdef bint has_input(self) except -1
    cpdef bytes read(self)
    cpdef read_now(self)
    cpdef wait_readable(self)
    cpdef _watch(self)
    cpdef _read_no_more(self, me)
    cpdef on_idle(self, callback)
    cpdef pause(self)
    cpdef write(self, bytes data)
    cpdef _wait_writable(self)
    cpdef release(self)
    cpdef close(self)
    cpdef reset(self)
