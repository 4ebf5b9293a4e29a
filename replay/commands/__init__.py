"""The verbs of ``trace`` that replay: one file each."""
