"""``python -m tiered files``: what is in a directory of values, and whether it is sound."""
