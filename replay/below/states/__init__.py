"""Crash states: which there are, what the image file holds in each, and how it is opened.

``points.py`` numbers them, ``sample.py`` says which are judged, ``image.py`` builds the file,
``opened.py`` opens it, ``repair.py`` does before what its format prescribes.
"""
