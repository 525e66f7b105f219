"""The threads that ask the shared tier for coherence's sake, and mark copies."""

from __future__ import annotations

from collections.abc import Callable

from tiered.concurrency.pool import PoolRefuses, WorkerPool

__all__ = ["behind"]

_workers = WorkerPool(2, name="tiered-coherence")
"""Apart from the pool of everybody's computations: while that is full, a lease must not run out."""


def behind(job: Callable[[], object]) -> bool:
    """Have a worker do *job*, which may wait for a server; whether one will."""
    try:
        _workers.submit(job)
    except PoolRefuses:
        return False
    return True
