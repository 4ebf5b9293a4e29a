"""The NBD protocol without I/O: tables, and state machines for a client and a server.

The specification is doc/proto.md of https://github.com/NetworkBlockDevice/nbd. Comments name its
section if a rule is not obvious.
"""
