"""Minimise a failing trace: ``trial.py`` runs one candidate in a process of its own, ``session.py``
is the whole job, ``script.py`` writes the result as a script and runs it, ``page.py`` shows it.

What makes a candidate simpler is in replay/minimize.
"""
