"""Disks that take ops: a raw image file, or an NBD server's export; and the event loop that drives
them."""
