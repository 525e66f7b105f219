"""The command line: ``python -m tiered``."""
