"""Asking servers: what a failure is answered with, how it is counted, told, and left alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.fakes import Held, together
from tiered.clients.memcached.servers import Server, Servers
from tiered.clients.memcached.transport import Connection
from tiered.errors import BackendError, NoServersError, ValueTooLarge
from tiered.keys.wire import wire_key
from tiered.routing.addresses import parse_addresses
from tiered.routing.health import NodeHealth
from tiered.stats.counters import Counters
from tiered.testing import ManualClock


class Fleet:
    """Servers that nobody connects to: the exchanges of these tests only say how they end."""

    def __init__(self, clock: ManualClock, *, strict: bool = False, **options: Any) -> None:
        self.counters = Counters()
        self.servers = Servers(
            parse_addresses(options.pop("addresses", ["one", "two"])),
            connect_timeout=1,
            timeout=1,
            pool_size=options.pop("pool_size", 8),
            pool_timeout=0.001,
            strict=strict,
            clock=clock,
            counters=self.counters,
        )
        self.server = self.servers.all[0]

    def ask(self, outcome: Any, server: Server | None = None) -> Any:
        def exchange(_connection: Connection) -> Any:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return self.servers.ask(server or self.server, exchange, "fallback")


BROKEN = BackendError("one:11211 broke off")


@pytest.fixture
def fleet(clock: ManualClock) -> Fleet:
    return Fleet(clock)


def test_an_answer_is_passed_on(fleet: Fleet) -> None:
    assert fleet.ask("answer") == "answer"
    assert fleet.ask(None) is None
    assert fleet.counters.errors == 0


def test_a_failure_is_the_fallback_and_counted(fleet: Fleet) -> None:
    assert fleet.ask(BROKEN) == "fallback"
    assert fleet.counters.errors == 1


def test_a_server_that_failed_is_not_asked_until_its_pause_is_over(
    fleet: Fleet, clock: ManualClock
) -> None:
    fleet.ask(BROKEN)
    assert fleet.ask("answer") == "fallback"
    assert fleet.counters.errors == 2
    assert fleet.ask("answer", fleet.servers.all[1]) == "answer"  # the other one is well
    clock.advance(NodeHealth.FIRST_PAUSE)
    assert fleet.ask("answer") == "answer"
    assert fleet.ask("answer") == "answer"


def test_the_failures_of_a_server_are_told_once_an_interval(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        fleet.ask(BROKEN)
        clock.advance(1)
    assert [record.getMessage() for record in caplog.records] == ["memcached: one:11211 broke off"]
    fleet.ask(BackendError("two:11211 broke off"), fleet.servers.all[1])
    assert len(caplog.records) == 2  # another server is other news
    clock.advance(31)
    fleet.ask(BROKEN)
    assert len(caplog.records) == 3
    assert "more since the last such line" in caplog.records[2].getMessage()


def test_strict_servers_raise_what_was_the_matter(clock: ManualClock) -> None:
    fleet = Fleet(clock, strict=True)
    assert fleet.ask("answer") == "answer"
    with pytest.raises(NoServersError, match="one:11211 broke off") as caught:
        fleet.ask(BROKEN)
    assert caught.value.__cause__ is BROKEN
    with pytest.raises(NoServersError, match="one:11211 failed a moment ago"):
        fleet.ask("answer")
    assert fleet.counters.errors == 2


@pytest.mark.parametrize("strict", [False, True])
def test_the_size_of_a_value_is_the_callers_matter_and_no_failure(
    clock: ManualClock, strict: bool
) -> None:
    fleet = Fleet(clock, strict=strict)
    with pytest.raises(ValueTooLarge):
        fleet.ask(ValueTooLarge("2 MB"))
    assert fleet.counters.errors == 0
    assert fleet.ask("answer") == "answer"


def test_a_server_that_refuses_a_size_has_answered(fleet: Fleet, clock: ManualClock) -> None:
    fleet.ask(BROKEN)
    clock.advance(NodeHealth.FIRST_PAUSE)
    with pytest.raises(ValueTooLarge):
        fleet.ask(ValueTooLarge("2 MB"))
    fleet.ask(BROKEN)
    clock.advance(NodeHealth.FIRST_PAUSE)  # it is a first failure again
    assert fleet.ask("answer") == "answer"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_nobodys_failure(fleet: Fleet, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fleet.ask(error())
    assert fleet.counters.errors == 0
    assert fleet.ask("answer") == "answer"


@pytest.mark.parametrize("strict", [False, True])
def test_a_full_pool_is_counted_and_not_the_servers_fault(
    clock: ManualClock, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fleet, held = Fleet(clock, strict=strict, pool_size=1), Held()
    thread = threading.Thread(
        target=lambda: fleet.servers.ask(fleet.server, lambda connection: held(), "fallback")
    )
    thread.start()
    assert held.started.wait(10)
    for _ in range(3):
        if strict:
            with pytest.raises(NoServersError, match="all 1 connections were in use"):
                fleet.ask("answer")
        else:
            assert fleet.ask("answer") == "fallback"
    held.go.set()
    thread.join(10)
    assert fleet.counters.errors == 3
    assert len(caplog.records) == 1
    assert fleet.ask("answer") == "answer"


def test_failures_that_many_threads_meet_at_once_make_one_pause(
    fleet: Fleet, clock: ManualClock
) -> None:
    meet = threading.Barrier(8)

    def exchange(_connection: Connection) -> str:
        meet.wait(10)
        raise BROKEN

    answers = together(lambda _: fleet.servers.ask(fleet.server, exchange, "fallback"), 8)
    assert answers == ["fallback"] * 8
    assert fleet.counters.errors == 8
    clock.advance(NodeHealth.FIRST_PAUSE)
    assert fleet.ask("answer") == "answer"


def test_each_server_is_asked_by_its_address(fleet: Fleet) -> None:
    assert fleet.servers.each(lambda connection: str(connection.address), "") == {
        "one:11211": "one:11211",
        "two:11211": "two:11211",
    }
    fleet.ask(BROKEN)
    assert fleet.servers.each(lambda connection: "up", "down") == {
        "one:11211": "down",
        "two:11211": "up",
    }


def test_keys_are_grouped_by_their_server(fleet: Fleet) -> None:
    wires = [wire_key(b"", b"%d" % number) for number in range(100)]
    groups = fleet.servers.grouped(wires)
    assert sorted(wire for group in groups.values() for wire in group) == sorted(wires)
    assert set(groups) == set(fleet.servers.all)
    for server, group in groups.items():
        assert {fleet.servers.of(wire) for wire in group} == {server}
    assert fleet.servers.grouped([]) == {}


def test_a_server_says_which_it_is(fleet: Fleet) -> None:
    assert repr(fleet.server) == "<Server one:11211>"
    fleet.servers.close()
