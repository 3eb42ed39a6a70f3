from gproxy.http.client cimport ClientSide
from gproxy.http.context cimport HttpContext
from gproxy.net.pool cimport ConnectionPool, PooledConnection
from gproxy.net.stream cimport Stream
