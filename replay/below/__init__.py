"""The driver's own I/O: record it in a run of a trace, cut the power, make it fail.

``recorded.py`` runs a trace with the lower ops logged. ``points.py`` says where the power may be
cut and what may be lost, ``image.py`` builds what the file then holds, ``opened.py`` opens it,
``judge.py`` says which sectors it must not hold. ``powercut.py`` goes through the states.
"""
