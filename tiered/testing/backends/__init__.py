"""What every backend of a region promises, as tests to inherit.

::

    class TestMyBackend(BackendContract):
        backend = "mine"
        arguments = {"url": "127.0.0.1"}

        def unavailable(self):
            return None if server_answers() else "no server"


    class TestMyMutexes(BackendMutexContract):
        backend = "mine"
        arguments = {"distributed_lock": True}

What cannot be a class attribute, e.g. a temporary file, is set by an autouse fixture. A client,
tiers or a backend object is given by overriding ``configured()`` instead of ``backend``. A
backend that promises less says so in the attributes. Keys are new in each test, so that a server
may be shared; time is a :class:`tiered.testing.ManualClock`, and nothing sleeps.
"""

from __future__ import annotations

from tiered.testing.backends.creating import CreatingTests
from tiered.testing.backends.kit import BackendKit
from tiered.testing.backends.mutexes import BackendMutexContract
from tiered.testing.backends.sharing import SharingTests
from tiered.testing.backends.storing import StoringTests
from tiered.testing.backends.valuing import ValuingTests

__all__ = ["BackendContract", "BackendKit", "BackendMutexContract"]


class BackendContract(StoringTests, ValuingTests, CreatingTests, SharingTests):
    """Inherit, say which backend, and run with pytest."""
