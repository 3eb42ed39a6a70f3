from gproxy.net.stream cimport Stream


cdef class PooledConnection:
    cdef public object sock, missed, spoke
    cdef public double dialled_at, idle_since, lend_until
    cdef public long uses
    cdef public bint greeted
    cdef public Stream stream
    cdef public object _watcher, _on_readable

    cpdef watch(self, loop, on_readable)
    cpdef unwatch(self)
    cpdef close(self)
    cpdef attach(self, Stream stream, ConnectionPool pool)


cdef class ConnectionPool:
    cdef public object settings, max_connections, missed
    cdef public long borrowed, _size
    cdef public object _max_uses
    cdef public bint wanted, greetings, _ahead, _closed
    cdef public double idle_limit, _max_age, _idle_timeout, _fill_at, _back_off
    cdef public object _owner, _clock, _idle, _filler

    cpdef PooledConnection lend(self, double now)
    cpdef keep(self, PooledConnection connection, double now)
    cpdef _ended(self, PooledConnection connection, double now)
