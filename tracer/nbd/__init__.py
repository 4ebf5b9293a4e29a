"""The NBD protocol without I/O: tables, and state machines for a client and a server.

Facts are from the specification, https://github.com/NetworkBlockDevice/nbd, doc/proto.md; comments
name its section where a rule is not obvious.
"""
