"""Fixtures for the whole suite: a manual clock and real memcached servers."""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import parts
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.testing import ManualClock

HERE = Path(__file__).parent
SECRET = "a secret for tests"

# No deadlines: how long an example takes is the machine's affair. In CI the examples are the
# same each time, so that a change does not fail for what another one brought in.
settings.register_profile("tiered", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("tiered")

# The machines that run the tests stall, now and then for seconds. A client that gave its server up
# for that would miss what the test has put there; tests of slow servers say their own timeouts.
_defaults = MemcachedClient.__init__.__kwdefaults__
assert _defaults is not None
_defaults.update(connect_timeout=4.0, timeout=4.0, pool_timeout=4.0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part", choices=parts.PARTS, help="only this part of the suite, as in `make test`"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what belongs to another part, before it is imported."""
    part = config.getoption("--part")
    if part is None or collection_path.suffix != ".py":
        return None
    return parts.part_of(collection_path.relative_to(HERE)) != part or None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs tests that are coroutine functions, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    given = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    asyncio.run(pyfuncitem.obj(**given))
    return True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def memcached() -> Iterator[PrivateMemcached]:
    """A real server; with CI=true, its absence is a failure."""
    if not PrivateMemcached.installed():
        if os.environ.get("CI") == "true":
            pytest.fail("memcached is not installed; `make test` installs it when run as root")
        pytest.skip("memcached is not installed")
    with PrivateMemcached() as server:
        yield server


@pytest.fixture(scope="session")
def second_memcached(memcached: PrivateMemcached) -> Iterator[PrivateMemcached]:
    """Another one."""
    with PrivateMemcached() as server:
        yield server


def unique_prefix() -> str:
    """Keeps the keys of one test from those of another on the same server."""
    return f"{secrets.token_hex(6)}/"


@pytest.fixture
def remote(memcached: PrivateMemcached, clock: ManualClock) -> Iterator[MemcachedClient]:
    """A client of the real server that nobody else's keys meet."""
    with MemcachedClient(
        [memcached.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock
    ) as client:
        yield client
