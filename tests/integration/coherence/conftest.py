"""A cluster on the servers of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coherence.cluster import Cluster
from tests.integration.coherence.network import BUS, Network, NoNamespaces, memcached_on
from tests.ports import free_port
from tiered.cli.demo.server import PrivateMemcached

Made = Callable[..., Cluster]


@pytest.fixture
def cluster(memcached: PrivateMemcached, tmp_path: Path) -> Iterator[Made]:
    """``cluster(**options)`` makes one whose bus has one address on this host."""
    with ExitStack() as stack:

        def made(**options: Any) -> Cluster:
            address = f"tcp://127.0.0.1:{free_port()}"
            return stack.enter_context(Cluster(tmp_path, [memcached.address], [address], **options))

        yield made


@pytest.fixture
def apart(memcached: PrivateMemcached, tmp_path: Path) -> Iterator[Made]:
    """``apart(candidates)`` makes one on two hosts, with a bus address on that many."""
    with ExitStack() as stack:

        def made(candidates: int, **options: Any) -> Cluster:
            try:
                network = stack.enter_context(Network(2))
            except NoNamespaces as error:
                pytest.skip(f"no network namespaces: {error}")
            server = stack.enter_context(memcached_on(network))
            addresses = [f"tcp://{network.address(host, BUS)}:5555" for host in range(candidates)]
            return stack.enter_context(
                Cluster(tmp_path, [server], addresses, network=network, **options)
            )

        yield made
