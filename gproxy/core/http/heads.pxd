from gproxy.core.http.fields cimport FieldLine, Fields
