from gproxy.core.http.fields cimport Fields
