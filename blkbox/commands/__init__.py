"""The verbs of ``trace``: one file each. A verb parses, calls and prints; it has no logic."""
