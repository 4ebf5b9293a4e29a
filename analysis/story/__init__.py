"""A verdict in words, as a frame, and compared with another; a trace's contents and history."""
