"""The files of one host as a cache client."""

from __future__ import annotations

from tiered.clients.files.client import FilesCacheClient, FilesStats

__all__ = ["FilesCacheClient", "FilesStats"]
