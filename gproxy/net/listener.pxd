from gproxy.net.limit cimport Limit
