"""What can be done with a trace without a driver: cut, strip, verify, check out, compare."""
