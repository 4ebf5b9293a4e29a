"""Import and export of other tools' traces: a module per format, and what they share.

See docs/interop.md.
"""
