"""``python -m tiered demo``: a real job on tiers, in a minute, on this machine."""
