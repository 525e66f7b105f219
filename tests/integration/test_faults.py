"""Every operation of a client on a server, spoilt in every way by a proxy before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.downgraded import KINDS, downgraded
from tests.integration.faults import FAULTS, STALLS, Endless, at, cut, flipped, impatient
from tests.integration.ledger import ACTS, Act, Ledger
from tests.integration.proxy import Exchange, Fault, Proxy, honest
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.testing import ManualClock

PATIENCE = 20.0
"""Seconds for an answer, where one will come."""
PAUSE_IS_OVER = 20.0
"""Longer than any pause after failures."""
PLACES = 3
"""Exchanges of an operation that are spoilt one by one."""

MAYBE_UNHARMED = {
    "answers reversed",
    "values swapped",
    "the last answer repeated",
    "answered twice",
    "wrong opaque",
    "wrong key",
    "byte 8 changed",
    "last byte of a value changed",
}
"""Faults that some answers do not show, or that cannot be told from what another client did."""


@pytest.fixture(params=["modern", "text"])
def proxy(request: pytest.FixtureRequest, memcached: PrivateMemcached) -> Iterator[Proxy]:
    """In front of a server as it is, or as it was before there were meta commands."""
    with downgraded(memcached.address, request.param) as proxy:
        yield proxy


class Bench:
    """A client behind the proxy, one that goes to the server directly, and keys for both.

    Args:
        timeout: of the client behind the proxy, while something goes wrong.
    """

    def __init__(
        self, proxy: Proxy, direct: str, clock: ManualClock, *, timeout: float = PATIENCE
    ) -> None:
        self.proxy = proxy
        self.timeout = timeout
        self.clock = clock
        prefix = unique_prefix()

        def client(address: str) -> MemcachedClient:
            return MemcachedClient(
                [address], checksum_key=SECRET, prefix=prefix, timeout=PATIENCE, clock=clock
            )

        self.client = client(proxy.address)
        self.direct = client(direct)
        self.ledger = Ledger(self.client)

    def run(self, act: Act, name: str, fault: Fault) -> object:
        """*act* on new keys, while *fault* lasts."""
        self.ledger = Ledger(self.client)
        key, free = f"{name}/held", f"{name}/free"
        self.hold(key)
        self.hold(f"{key}/2")
        self.ledger.deleted(free)
        self.proxy.fault = fault
        try:
            with impatient(self.client, self.timeout):
                return act.run(self.ledger, key, free)
        finally:
            self.proxy.fault = honest

    def hold(self, key: str) -> None:
        """Have a value under *key*."""
        assert self.ledger.put(key), f"{key} cannot be put"

    def recover(self) -> None:
        """Within its pause the client works again, and nothing wrong is found by anybody."""
        self.clock.advance(PAUSE_IS_OVER)
        self.hold("afterwards")
        assert self.client.get("afterwards", None) is not None
        self.ledger.check(self.client)

    def failures(self) -> int:
        """Those that the client has counted."""
        return self.client.stats.errors


@pytest.fixture
def bench(proxy: Proxy, memcached: PrivateMemcached, clock: ManualClock) -> Iterator[Bench]:
    made = Bench(proxy, memcached.address, clock)
    with made.client, made.direct:
        yield made


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_fault_every_operation_does_its_part_on_servers_of_all_ages(
    memcached: PrivateMemcached, clock: ManualClock, kind: str, act: str
) -> None:
    with downgraded(memcached.address, kind) as proxy:
        made = Bench(proxy, memcached.address, clock)
        with made.client, made.direct:
            assert made.run(ACTS[act], "honest", honest) == ACTS[act].done
            made.recover()
            made.ledger.check(made.direct)
            assert made.failures() == 0
            assert proxy.accepted <= 2  # one may be for a probe


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_counted_misses_and_nothing_else(
    proxy: Proxy, memcached: PrivateMemcached, clock: ManualClock, name: str, act: str
) -> None:
    # Where an answer seems to be incomplete, the rest of it is waited for.
    timeout = 1.0 if name in MAYBE_UNHARMED else PATIENCE
    made = Bench(proxy, memcached.address, clock, timeout=timeout)
    with made.client, made.direct:
        _cost(made, name, act)


def _cost(bench: Bench, name: str, act: str) -> None:
    operation = ACTS[act]
    faults: dict[str, Callable[[Fault], Fault]] = {"all": lambda fault: fault}
    for place in range(PLACES):
        faults[str(place)] = lambda fault, place=place: at(place, fault)  # type: ignore[misc]
    for where, limited in faults.items():
        before = bench.client.stats
        answer = bench.run(operation, where, limited(FAULTS[name](bench.proxy)))
        after = bench.client.stats
        reads = after.hits + after.misses - before.hits - before.misses
        assert reads == operation.reads
        if where == "all" and name not in MAYBE_UNHARMED:
            assert after.errors > before.errors
        if answer != operation.done and name not in MAYBE_UNHARMED:
            assert after.errors > before.errors
        bench.recover()


@pytest.mark.parametrize("act", ["get", "get_multi", "put", "delete", "renew", "claim and fill"])
@pytest.mark.parametrize("name", STALLS)
def test_a_slow_answer_costs_no_more_than_itself(
    proxy: Proxy, memcached: PrivateMemcached, clock: ManualClock, name: str, act: str
) -> None:
    made = Bench(proxy, memcached.address, clock, timeout=0.2)
    with made.client, made.direct:
        made.run(ACTS[act], "stalled", STALLS[name](proxy))
        made.recover()


@pytest.mark.parametrize("act", ["get", "get_multi", "put", "delete"])
def test_a_line_without_an_end_is_given_up(bench: Bench, act: str) -> None:
    endless = Endless()
    bench.run(ACTS[act], "endless", endless)
    assert bench.failures() > 0
    assert endless.bytes < endless.LIMIT / 2
    bench.recover()


@pytest.mark.parametrize("act", ACTS)
def test_an_answer_that_breaks_off_after_any_byte(bench: Bench, act: str) -> None:
    for length in range(_longest(bench, act)):
        failures = bench.failures()
        bench.run(ACTS[act], f"cut {length:04}", cut(length))
        assert bench.failures() > failures
        bench.recover()


@pytest.mark.parametrize("act", ACTS)
def test_an_answer_of_which_any_one_byte_is_another(
    proxy: Proxy, memcached: PrivateMemcached, clock: ManualClock, act: str
) -> None:
    # A length that has become greater is waited for.
    made = Bench(proxy, memcached.address, clock, timeout=0.25)
    with made.client, made.direct:
        for place in range(_longest(made, act)):
            made.run(ACTS[act], f"flip{place:04}", flipped(place))
            made.recover()


def _longest(bench: Bench, act: str) -> int:
    """Bytes in the first answer of *act*, for keys whose names are as long as those above."""
    answers: list[int] = []

    def noted(exchange: Exchange) -> bytes:
        answers.append(len(exchange.answer))
        return exchange.answer

    assert bench.run(ACTS[act], "measured", noted) == ACTS[act].done
    return answers[0]
