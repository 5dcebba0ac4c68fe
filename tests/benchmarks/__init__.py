"""Benchmarks: ``make bench``. How to read them stands in RESULTS.md beside this file."""
