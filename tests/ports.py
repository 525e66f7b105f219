"""Ports that nobody else comes to have while a test needs them."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Final

from bench.soak_servers import first_free

__all__ = ["free_port", "kept_port"]

_FIRST: Final = 12_000  # above memcached's own, and below those that outgoing connections are given
_COUNT: Final = 300
"""Ports of each worker that runs tests beside others."""
_WORKERS: Final = 26


def free_port() -> int:
    """One that no outgoing connection is given, nor a test in another worker, until it is bound.

    It is not given again soon: who asks for two, and binds them later, gets two.
    """
    return first_free(islice(_ports, _COUNT))


def _ours() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first = _FIRST + _COUNT * worker
    return cycle(random.sample(range(first, first + _COUNT), _COUNT))


_ports: Final = _ours()


@contextmanager
def kept_port() -> Iterator[int]:
    """A port of the loopback where nobody listens, or a server that dies and returns.

    A socket has it that does not listen. So who connects meanwhile is refused, a server may have
    it nevertheless, as it allows for others (``SO_REUSEADDR``), and the system gives it to nobody
    who asks for any port, or connects from one.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]
