"""What re-executes traces: the schedule, the player, and the search for the culprit."""
