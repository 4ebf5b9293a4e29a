"""Trace -> polars: records as numpy sees them, columns, frames, and what sectors held when."""
