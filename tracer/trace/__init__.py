"""The trace: a file of records, and a store of payloads beside it. docs/trace-format.md is the
specification."""
