"""Everything in the I/O path: ops, NBD, disks, drivers, the mirror, traces and the recorder."""
