"""Ops on both sides: done on the reference and the test image, ordered, and compared.

``mirror.py`` does ops, ``comparison.py`` knows what the disk may hold afterwards, ``sweep.py``
compares images: where ops came (``touched.py``), where block status shows data (``walk.py``), and
in a sample (``scope.py``).
"""
