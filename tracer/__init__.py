"""What sits in the I/O path: ops, disks, drivers, the mirror, traces, and the recorder."""
