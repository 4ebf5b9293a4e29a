"""What sits in the I/O path: ops, traces, NBD, devices, drivers, the mirror and the recorder."""
