"""The parts of the suite that `make test` runs in ways of their own, and why.

It runs the suite compiled, and then in pure Python: the second run tests what stands in for the
compiled core, its twins in Python. Modules that test something else are run once, compiled, and are
left out of the second run. They do not touch the core, or only to have something to send, print or
count; what they touch of it is tested in both runs by others. ``tools/find_once.py`` finds those
that do not touch it: it compares the lines that tests ran both times.

Most tests are run side by side. Those whose processes have times to keep are run alone, one after
the other.

The tables have paths within ``tests``; a folder stands for all that is in it. ``--part`` chooses.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

__all__ = ["ALONE", "ONCE", "PARTS", "part_of"]

PARTS: Final = ("twice", "twice-alone", "once", "once-alone")
_BUS: Final = "the bus: messages and sockets, which keep no values"
_ROUTING: Final = "which server a key belongs to, and which servers there are"
_BENCH: Final = "whether benchmarks measure what they say; each starts processes of its own"
_DEMO: Final = "workers that compute each key once only as long as none of them is starved"

ONCE: Final[dict[str, str]] = {
    "contract/test_aio_views.py": "Python around clients whose own contract is run twice",
    "docs": "a page's shell command",
    "integration/coherence/test_broken_nodes.py": "whether the checker finds what is wrong",
    "integration/coherence/test_broker_faults.py": "who is broker, and who follows him",
    "integration/coherence/test_checker.py": "the checker by itself",
    "integration/coherence/test_splits.py": "what a network that is cut does to brokers",
    "integration/test_bench_coherence.py": _BENCH,
    "integration/test_bench_memcached.py": _BENCH,
    "integration/test_build.py": "builds the package with and without a compiler, both times",
    "integration/test_coherence_cli.py": "the broker as a program, and its command line",
    "integration/test_demo.py": "the demo as a program: options, servers, signals",
    "integration/test_dns.py": "name servers",
    "integration/test_endpoint.py": "an endpoint that tells servers",
    "integration/test_zmq_bus.py": _BUS,
    "integration/test_zmq_lives.py": _BUS,
    "integration/test_zmq_security.py": _BUS,
    "integration/test_zmq_sockets.py": _BUS,
    "unit/test_addresses.py": _ROUTING,
    "unit/test_discovery.py": _ROUTING,
    "unit/test_ring.py": _ROUTING,
    "unit/test_ring_weights.py": _ROUTING,
    "unit/test_routing.py": _ROUTING,
    "unit/test_typing.py": "type checkers, which read Python",
}

ALONE: Final[dict[str, str]] = {
    "integration/coherence": "processes that must hear from each other in time, under load",
    "integration/test_demo.py": _DEMO,
    "integration/test_demo_files.py": _DEMO,
    "integration/test_demo_runs.py": _DEMO,
}


def part_of(path: PurePath) -> str:
    """The part that the module at *path* within ``tests`` belongs to."""
    once, alone = (_has(table, path) for table in (ONCE, ALONE))
    return ("once" if once else "twice") + ("-alone" if alone else "")


def _has(table: dict[str, str], path: PurePath) -> bool:
    return any(str(each) in table for each in (path, *path.parents))
