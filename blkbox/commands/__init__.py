"""The verbs of ``trace``, one file each.

A verb parses its arguments, calls a function and prints the result. What loads slowly is imported
inside the functions, so that ``trace --help`` is fast.
"""
