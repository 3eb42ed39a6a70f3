from gproxy.net.pool cimport ConnectionPool


cdef class Backend:
    cdef object __weakref__  # policies of users' may keep them, and note things on them
    cdef dict __dict__
    cdef public object name, weight, settings, stats, health, ejection, _idle_limit, line, slot_freed
    cdef public Upstream upstream
    cdef public long connects, reuses, _turn
    cdef public tuple endpoints
    cdef public ConnectionPool pool


cdef class Upstream:
    cdef public object name, settings, metrics, dial, clock, queue, retries, policy, by_token, on_down, known
    cdef public tuple backends
    cdef public bint shares, judges, sticks, looks_inside, _serves, speaks

    cpdef standing(self, double now)
