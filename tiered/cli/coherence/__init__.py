"""``python -m tiered coherence``: brokers, listeners, and who is there."""
