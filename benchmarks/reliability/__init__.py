"""Attacks what is written and read, see `python -m benchmarks.reliability --help`."""
