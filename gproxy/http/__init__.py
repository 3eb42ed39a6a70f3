"""The sessions of an http listener.

context     what all sessions of a listener share, and what they remember of heads
client      the client's side of a session: its bytes, its phase, its end
session     requests one after the other, for as long as the client stays
exchange    one request and its response
upload      a request body on its way        download    a response body
tunnel      an upgraded connection
record      what is counted, logged and kept of an exchange        explain    the header that tells of its choice
"""
