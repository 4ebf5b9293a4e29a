"""Re-executes a trace on a driver: the schedule, the player, one run, and what it shows."""
