"""``trace matrix``: every trace on every build.

``sources.py`` lists the traces, ``survey.py`` and ``fingerprint.py`` tell versions of traces and
builds apart, ``cell.py`` runs one trace on one build, ``folder.py`` keeps results, ``running.py``
is the matrix. ``screen.py`` and ``artifacts.py`` show it.
"""
