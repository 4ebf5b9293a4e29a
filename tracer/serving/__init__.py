"""Serves a disk of the past over NBD, straight from a trace."""
