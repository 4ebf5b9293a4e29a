"""Other tools' traces: one module per foreign format, and what they share. See docs/interop.md."""
