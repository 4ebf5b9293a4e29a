"""Builds with known defects, and the workload that triggers them."""
