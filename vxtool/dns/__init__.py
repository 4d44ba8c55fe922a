"""The embedded resolver at 127.0.0.11: a message in, a message out. Pure but for server.py, which has the sockets."""
