"""A state machine that drives any client against a dictionary with deadlines.

::

    class MyMachine(ClientMachine):
        def make_client(self, clock):
            return MyClient(clock=clock)

    TestMyMachine = MyMachine.TestCase

Hypothesis makes up sequences of operations, runs them on the client and on the
model, compares the answers, and shortens a sequence that shows a difference.
"""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tiered.clients.base import CacheClient
from tiered.sentinels import FOREVER
from tiered.testing.clock import ManualClock
from tiered.typing import Key

__all__ = ["ClientMachine"]

KEYS: list[Key] = [1, "1", ("a", 2), "a key with spaces", (None, b"\0")]
SPELLINGS: dict[Key, list[Key]] = {1: [1, 1.0, True], ("a", 2): [("a", 2), ("a", 2.0)]}

# Long against the time that an example takes: servers expire by a clock of their own.
TTLS = st.sampled_from([-50.0, 0.0, 30.0, 60.0, 61.5, 3_000_000.0, FOREVER])
PAUSES = st.sampled_from([0.5, 15.0, 31.0, 61.0, 4_000_000.0])


@st.composite
def _keys(draw: st.DrawFn) -> Key:
    key = draw(st.sampled_from(KEYS))
    return draw(st.sampled_from(SPELLINGS.get(key, [key])))


class ClientMachine(RuleBasedStateMachine):
    """Inherit and implement :meth:`make_client`."""

    keeps_stale: ClassVar[bool] = True
    exact_ttl: ClassVar[bool] = True
    """As in :class:`tiered.testing.ClientContract`."""

    def make_client(self, clock: ManualClock) -> CacheClient:
        """A new client that holds nothing, is not full with five entries, and asks *clock*."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.clock = ManualClock()
        self.client = self.make_client(self.clock)
        self.model: dict[Key, tuple[int, float]] = {}
        self.written = 0

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()

    # -- The model -------------------------------------------------------------

    def _value(self) -> int:
        self.written += 1
        return self.written

    def _left(self, key: Key) -> float:
        """Seconds left in the model; ``-inf`` for what it does not hold."""
        if key not in self.model:
            return -math.inf
        return self.model[key][1] - self.clock.monotonic()

    def _fresh(self, key: Key) -> bool:
        return self._left(key) > 0

    # -- Rules -----------------------------------------------------------------

    @rule(key=_keys(), ttl=TTLS)
    def put(self, key: Key, ttl: float) -> None:
        value = self._value()
        assert self.client.put(key, value, ttl, keep=10_000_000)
        self.model[key] = (value, self.clock.monotonic() + ttl)

    @rule(keys=st.lists(_keys(), max_size=4), ttl=TTLS)
    def put_multi(self, keys: list[Key], ttl: float) -> None:
        items = {key: self._value() for key in keys}
        self.client.put_multi(items, ttl, keep=10_000_000)
        for key, value in items.items():
            self.model[key] = (value, self.clock.monotonic() + ttl)

    @rule(key=_keys(), ttl=TTLS)
    def add(self, key: Key, ttl: float) -> None:
        value = self._value()
        assert self.client.add(key, value, ttl, keep=10_000_000) is not self._fresh(key)
        if not self._fresh(key):
            self.model[key] = (value, self.clock.monotonic() + ttl)

    @rule(key=_keys(), ttl=TTLS)
    def renew(self, key: Key, ttl: float) -> None:
        renewed = self.client.renew(key, ttl)
        lengthens = key in self.model and ttl > self._left(key)
        if self._fresh(key) or self.keeps_stale or not lengthens:
            assert renewed is lengthens
        if renewed:
            self.model[key] = (self.model[key][0], self.clock.monotonic() + ttl)

    @rule(key=_keys())
    def expire(self, key: Key) -> None:
        assert self.client.expire(key) is self._fresh(key)
        if self._fresh(key):
            self.model[key] = (self.model[key][0], self.clock.monotonic())

    @rule(key=_keys())
    def delete(self, key: Key) -> None:
        found = self.client.delete(key)
        if self._fresh(key) or key not in self.model or self.keeps_stale:
            assert found is (key in self.model)
        self.model.pop(key, None)

    @rule(keys=st.lists(_keys(), max_size=4))
    def delete_multi(self, keys: list[Key]) -> None:
        self.client.delete_multi(keys)
        for key in keys:
            self.model.pop(key, None)

    @rule(timeout=st.sampled_from([0.0, 20.0, 100.0]))
    def purge(self, timeout: float) -> None:
        self.client.purge(timeout)
        for key in list(self.model):
            if self._left(key) < -timeout:
                # Gone, or kept by a client that forgets in its own time.
                value, ttl = self.client.get_ttl(key, None)
                assert value in (None, self.model[key][0])
                assert ttl < 0
                if value is None:
                    del self.model[key]

    @rule()
    def clear(self) -> None:
        if self.client.capabilities.clearable:
            self.client.clear()
            self.model.clear()

    @rule(key=_keys(), margin=st.sampled_from([None, 0.0, 20.0, 60.0]))
    def contains(self, key: Key, margin: float | None) -> None:
        if self.exact_ttl or margin in (None, 0.0):
            assert self.client.contains(key, margin) is (self._left(key) > (margin or 0.0))

    @rule(key=_keys())
    def promote(self, key: Key) -> None:
        self.client.promote(key)

    @rule(seconds=PAUSES)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # -- What must hold after every step ----------------------------------------

    @invariant()
    def answers_match(self) -> None:
        if not hasattr(self, "model"):
            return
        many = self.client.get_multi(KEYS, None)
        timed = self.client.get_ttl_multi(KEYS, None)
        for key in KEYS:
            value, left = self.model.get(key, (None, 0.0))[0], self._left(key)
            fresh = value if left > 0 else None
            assert self.client.get(key, None) == many[key] == fresh
            for found, ttl in (timed[key], self.client.get_ttl(key, None)):
                if left > 0:
                    assert found == value
                    assert 0 < ttl <= left + 0.01
                    assert not self.exact_ttl or ttl == pytest.approx(left, abs=0.01)
                else:
                    assert ttl < 0
                    assert found in ((value,) if self.keeps_stale else (value, None))
