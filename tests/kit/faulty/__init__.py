"""Builds with known defects, and the workloads that trigger them."""
