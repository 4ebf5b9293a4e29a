"""An op on both sides: done on the reference and on the test image, ordered and compared.

``op.py`` says what an op does; ``comparison.py`` says what the disk may hold afterwards.
"""
