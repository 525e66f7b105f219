"""Memcached servers as a cache client."""

from __future__ import annotations

from tiered.clients.memcached.client import MemcachedClient

__all__ = ["MemcachedClient"]
