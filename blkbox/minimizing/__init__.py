"""Minimise a failing trace: ``session.py`` is the whole job, ``running.py`` leads it.

``testing.py`` tests candidates, ``trial.py`` and ``power.py`` look at one in a process of its own.
``script.py`` writes the result as a script and runs it, ``result.py`` shows it.

What makes a candidate simpler is in replay/minimize.
"""
