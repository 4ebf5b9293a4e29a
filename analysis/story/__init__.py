"""A verdict in words, as a frame, and compared with another."""
