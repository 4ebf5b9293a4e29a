"""What a byte range may hold while ops that conflict are in flight together. No I/O.

``value.py`` has what one op may leave in a range. ``segment.py`` has one range and the values that
it may hold. ``candidates.py`` keeps the ranges that hold more than one, and learns from ops.
"""
