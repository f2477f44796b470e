"""Benchmarks of the field: rows that are run once, evaluated alike and added to a table."""
