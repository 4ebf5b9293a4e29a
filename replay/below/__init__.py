"""The driver's own I/O: record it in a run of a trace, cut the power, make it fail.

``recorded.py`` runs a trace with the lower ops logged. ``promises.py`` says what was durable when,
``states/`` has what the file holds after a power cut, ``judge.py`` says which sectors a disk must
not hold. ``powercut.py`` goes through the states.
"""
