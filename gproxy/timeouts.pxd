from gproxy.net.relay cimport Relay


cdef class RelayWatch:
    cdef public double _up_since, _down_since
    cdef public long long _delivered_down, _delivered_up
    cdef public Relay _relay
