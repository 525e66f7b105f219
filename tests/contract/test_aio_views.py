"""The contract of every client once more, with each operation awaited through ``client.aio``."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.contract import test_clients
from tiered.clients.aio import AsyncView
from tiered.clients.base import CacheClient
from tiered.clients.claims import AsyncClaim
from tiered.clients.wrapper import Wrapper
from tiered.stats.counters import ClientStats
from tiered.testing import ClientContract, ManualClock

OPERATIONS = sorted(
    name for name, member in vars(AsyncView).items() if inspect.iscoroutinefunction(member)
)


class AwaitedClaim:
    """An asynchronous claim for callers without a loop."""

    def __init__(self, claim: AsyncClaim, client: Awaited) -> None:
        self.claim = claim
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.claim, name)

    def fill(self, *args: Any, **options: Any) -> Any:
        return self.client.run(self.claim.fill(*args, **options))

    def release(self) -> Any:
        return self.client.run(self.claim.release())

    def __enter__(self) -> AwaitedClaim:
        return self

    def __exit__(self, *error: Any) -> None:
        self.client.run(self.claim.__aexit__(*error))


class Awaited(Wrapper):
    """A client whose operations go through its view; each thread has a loop of its own."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self._loop = asyncio.new_event_loop()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        async def answer() -> Any:
            return await awaitable

        if threading.current_thread() is threading.main_thread():
            return self._loop.run_until_complete(answer())
        return asyncio.run(answer())

    def ask(self, operation: str, *args: Any, **options: Any) -> Any:
        answer = self.run(getattr(self.client.aio, operation)(*args, **options))
        return AwaitedClaim(answer, self) if isinstance(answer, AsyncClaim) else answer

    @property
    def stats(self) -> ClientStats:
        return self.client.stats

    def end(self) -> None:
        self._loop.close()


def _awaited(operation: str) -> Any:
    def ask(self: Awaited, *args: Any, **options: Any) -> Any:
        return self.ask(operation, *args, **options)

    return ask


for name in OPERATIONS:
    setattr(Awaited, name, _awaited(name))


def contract_of(kind: type[ClientContract]) -> type[ClientContract]:
    """The contract of *kind*, awaited."""

    class Contract(kind):  # type: ignore[misc, valid-type]
        @pytest.fixture(autouse=True)
        def _loops(self) -> Any:
            self.made: list[Awaited] = []
            yield
            for client in self.made:
                client.end()

        def make_client(self, clock: ManualClock) -> CacheClient:
            client = Awaited(super().make_client(clock))
            self.made.append(client)
            return client

    Contract.__name__ = Contract.__qualname__ = kind.__name__.replace("Test", "TestAwaited", 1)
    return Contract


for kind in list(vars(test_clients).values()):
    if inspect.isclass(kind) and issubclass(kind, ClientContract) and kind.__name__[:4] == "Test":
        contract = contract_of(kind)
        globals()[contract.__name__] = contract
del kind, contract


def signature(function: Any) -> tuple[list[Any], Any]:
    spoken = inspect.signature(function)
    parameters = [
        (one.name, one.kind, one.default, one.annotation) for one in spoken.parameters.values()
    ]
    return parameters, spoken.return_annotation


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_the_signature_of_its_twin(name: str) -> None:
    ours, theirs = signature(getattr(AsyncView, name)), signature(getattr(CacheClient, name))
    if name == "claim":
        assert ours == (theirs[0], "AsyncClaim | None")
    else:
        assert ours == theirs


def test_no_public_operation_is_missing() -> None:
    public = {
        name
        for name, member in vars(CacheClient).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }
    primitives = {"entries", "store", "touch", "discard", "sweep"}
    for_clients = {"find", "find_many", "store_many", "discard_many", "outdate", "revoke"}
    for_clients |= {"drop_near", "follow", "follow_all", "find_beside", "watching", "when_late"}
    for_clients |= {"store_versioned", "version", "versioned"}
    for_clients |= {"agree", "announce", "decree", "fill"}
    at_once = {"near", "hot_path", "first_tiers"}
    spellings = {"getTtl", "getMulti", "getTtlMulti"}
    assert public - set(OPERATIONS) == primitives | for_clients | at_once | spellings
