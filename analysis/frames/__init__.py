"""Trace -> polars: record layout, records, columns, frames, and the versions that sectors held."""
