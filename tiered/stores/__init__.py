"""Bounded collections of entries inside the process: what an in-process client keeps them in."""
