"""Replay a trace on a driver: the schedule, the player, one run, and the symptom that it shows."""
