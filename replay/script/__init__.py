"""A program as a script that needs no blkbox: for qemu-io, for nbdsh, for QEMU's iotests.

``expected.py`` says what a disk may hold; each other module has one form of script. These
functions make text, and run nothing.
"""
