"""Ops on both sides: done on the reference and the test image, ordered, and compared.

``mirror.py`` does ops, ``comparison.py`` knows what the disk may hold afterwards, ``sweep.py``
compares whole images.
"""
