"""The dogpile lock, and mutexes for threads, for the processes of a host, and for a cluster."""

from __future__ import annotations

from tiered.dogpile.core import Dogpile, SyncReaderDogpile
from tiered.dogpile.lock import Lock, Mutex, NeedRegenerationException
from tiered.dogpile.mutexes import ClaimMutex, FileMutex, MemcachedMutex, ThreadMutex
from tiered.dogpile.readwrite import ReadWriteMutex
from tiered.dogpile.reentrant import KeyReentrantMutex
from tiered.dogpile.registry import NameRegistry

__all__ = [
    "ClaimMutex",
    "Dogpile",
    "FileMutex",
    "KeyReentrantMutex",
    "Lock",
    "MemcachedMutex",
    "Mutex",
    "NameRegistry",
    "NeedRegenerationException",
    "ReadWriteMutex",
    "SyncReaderDogpile",
    "ThreadMutex",
]
