"""The verbs of ``trace`` that record and look at traces: one file each."""
