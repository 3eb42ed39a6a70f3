# What ends a relay is called the slow way, for which its caller holds it: see docs/performance.md, "Compiling it".
cdef class Flow:
    cdef public bint _splicing, ended, source_ended, source_reset
    cdef public long _full
    cdef public object _pipe, _reader, _writer, sink, source
    cdef public Relay _relay
    cdef public bytes _stash
    cdef public long long received

    cpdef stop(self)
    cpdef _block(self)
    cpdef _grow(self)


cdef class AskingFlow(Flow):
    pass


cdef class Relay:
    cdef public object _abort_timer, _on_end, loop, on_client_fin
    cdef public Flow _aborting, up, down
    cdef public long long asked_at
    cdef public bint backend_reset, client_reset, over

    cpdef Flow _other(self, Flow flow)
    cpdef _shut(self, Flow flow)
    cpdef bint _stop(self) except -1
