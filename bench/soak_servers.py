"""The servers of a soak, and what is done to them."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final, Self

from tiered.cli.demo.server import PrivateMemcached

__all__ = ["Servers", "Trouble", "first_free", "lasting_port"]

FROZEN: Final = 2.0
"""Seconds."""


class Servers:
    """Some memcached on ports of their own; a context manager."""

    def __init__(self, count: int, memory: int = 64) -> None:
        self.all = [PrivateMemcached(memory=memory) for _ in range(count)]

    @property
    def addresses(self) -> list[str]:
        """Where they listen, running or not."""
        return [server.address for server in self.all]

    def __enter__(self) -> Self:
        for server in self.all:
            server.start(lasting_port())
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.all:
            server.stop()


class Trouble:
    """Kills a server now and then, and starts it again; or freezes it.

    Args:
        every: seconds from one to the next.
        freeze: stop the process for two seconds instead.

    Threads: only the one that started the servers, with which the kernel ends them.
    """

    def __init__(
        self,
        servers: Servers,
        every: float,
        *,
        freeze: bool,
        seed: int,
        tell: Callable[[str], None],
    ) -> None:
        self._servers = servers
        self._every = every
        self._freeze = freeze
        self._random = random.Random(seed)
        self._tell = tell
        self._victim: PrivateMemcached | None = None
        self._next = time.monotonic() + every
        self._over = 0.0
        self.made = 0

    def step(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._victim is not None and now >= self._over:
            self.end()
        elif self._victim is None and now >= self._next:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._victim = self._random.choice(self._servers.all)
        os.kill(self._victim.pid, signal.SIGSTOP if self._freeze else signal.SIGKILL)
        self._next = now + self._every
        down = FROZEN if self._freeze else self._random.uniform(0.05, min(1.5, self._every / 2))
        self._over = now + down
        self.made += 1
        self._tell(
            f"{'froze' if self._freeze else 'killed'} {self._victim.address} for {down:.2f} s"
        )

    def end(self) -> None:
        """Have all servers running again."""
        victim, self._victim = self._victim, None
        if victim is None:
            return
        if self._freeze:
            os.kill(victim.pid, signal.SIGCONT)
        else:
            victim.stop()
            victim.start(victim.port)
        self._tell(f"{victim.address} is back")


def lasting_port() -> int:
    """A free port that no outgoing connection is given while its server is down."""
    return first_free(random.sample(range(20_000, 32_000), 200))


def first_free(ports: Iterable[int]) -> int:
    """The first of *ports* that nobody has.

    Raises:
        OSError: all are taken.
    """
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("none of these ports is free")
