"""The embedded resolver at 127.0.0.11: a message in, a message out. Pure; sockets will be in server.py only."""
