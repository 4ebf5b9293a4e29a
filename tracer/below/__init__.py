"""Below the driver: what it does to its own image file, on one clock with the guest's ops.

``blklogwrites.py`` puts QEMU's log under a format, ``log_writes.py`` reads it, ``clock.py`` notes
how far it was at each guest op, ``events.py`` joins the two, ``stream.py`` has the file NAME.lower.
"""
