"""Guest -> mirror -> trace: one recording from start to end."""
