"""Pure decisions: values in, values out. No gevent, socket, ssl, time or random here."""
