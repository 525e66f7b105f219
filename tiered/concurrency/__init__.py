"""Locks, flights and fork handling; nothing here knows what a cache is."""
