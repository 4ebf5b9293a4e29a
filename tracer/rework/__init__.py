"""Trace -> trace or disk: cut, strip, verify, checkout, diff."""
