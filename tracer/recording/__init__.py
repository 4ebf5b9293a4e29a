"""Recording: guest -> mirror -> trace, from the first connection to the last comparison."""
