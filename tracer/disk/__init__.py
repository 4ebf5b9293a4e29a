"""Disks that take ops, a raw image file or an NBD server's export, and their event loop.

``device.py`` is their interface, ``file.py`` and ``export.py`` implement it.
"""
