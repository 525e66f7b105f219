"""Counting what happens, and saying once in a while what went wrong."""
