"""Run jobs side by side."""
