"""Tiers from one string, as a program's settings have it."""

from tiered.urls.build import from_url

__all__ = ["from_url"]
