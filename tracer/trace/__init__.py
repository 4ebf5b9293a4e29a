"""The trace: a file of records, and a payload store beside it.

docs/trace-format.md is the specification."""
