"""Written through: changes go from the farthest tier, which decides, to the nearest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any, TypeVar

from tiered.clients.base import ALWAYS, IF_ABSENT, Claim, Condition
from tiered.clients.claimed import OURS
from tiered.clients.tier import Tier
from tiered.clients.tiers import Tiers
from tiered.concurrency.generations import Watch
from tiered.errors import KeyEncodingError
from tiered.typing import Key

__all__ = ["WriteThrough"]

T = TypeVar("T")


class WriteThrough(Tiers):
    """Tiers that are written through, one after the other.

    Threads: safe. Two writers of one key at a time leave it out of the nearer tiers, so that
    the farthest decides who came last.
    """

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        now = self.clock.monotonic()

        def store(tier: Tier, condition: Condition) -> bool:
            return tier.client.store(
                key, value, tier.deadline(deadline, now), keep=keep, condition=condition
            )

        with self._writing(key) as watch:
            if condition is IF_ABSENT:
                # The farthest tier decides, and the nearer ones follow; but what one of
                # these still holds, after the farthest lost it, is there for readers.
                nearer = self._tiers[:-1]
                if any(self._is_fresh(tier, key, now) for tier in nearer):
                    return False
                farthest = self._tiers[-1]
                if not self._ask(farthest, lambda: store(farthest, IF_ABSENT), False):
                    return False
                return self._write_down(watch, key, lambda tier: store(tier, ALWAYS), farthest=True)
            return self._write_down(watch, key, lambda tier: store(tier, condition))

    def store_versioned(
        self, key: Key, value: Any, deadline: float, *, keep: float = 0.0
    ) -> tuple[bool, object | None]:
        if type(self).store is not WriteThrough.store:
            return super().store_versioned(key, value, deadline, keep=keep)
        now = self.clock.monotonic()
        farthest = self._tiers[-1]

        def store(tier: Tier) -> bool:
            return tier.client.store(key, value, tier.deadline(deadline, now), keep=keep)

        with self._writing(key) as watch:
            life = farthest.deadline(deadline, now)
            failed: tuple[bool, object | None] = (False, None)
            stored, version = self._ask(
                farthest,
                lambda: farthest.client.store_versioned(key, value, life, keep=keep),
                failed,
            )
            return self._write_down(watch, key, store, farthest=stored), version

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        now = self.clock.monotonic()
        farthest = self._tiers[-1]

        def store(tier: Tier) -> bool:
            return tier.client.store(key, value, tier.deadline(deadline, now), keep=keep)

        def fill() -> bool:
            life = farthest.deadline(deadline, now)
            return farthest.client.fill(key, value, life, keep=keep, claim=claim)

        if type(self).store is not WriteThrough.store:
            return super().fill(key, value, deadline, keep=keep, claim=claim)
        with self._writing(key) as watch:
            # From here on, whoever changes the key meets a writer.
            if claim.lease is None or claim.lease is OURS:
                if self._claimed.changed(claim, key):
                    claim.lost = True
                    return False
                if claim.lease is None:  # of a tier that judges before it is written
                    return claim.use(lambda: self._write_down(watch, key, store))
                # Who could not be asked for the claim is not filled either.
                return claim.use(lambda: self._fill_near(claim, watch, key, store))
            written = self._ask(farthest, fill, False)
            if claim.lost:
                return False
            if written:
                return self._write_down(watch, key, store, farthest=True)
            # Where the farthest tier failed, the nearer ones serve all the same.
            return self._fill_near(claim, watch, key, store)

    def _fill_near(
        self, claim: Claim, watch: Watch, key: Key, store: Callable[[Tier], bool]
    ) -> bool:
        """*store* in all tiers but the farthest, which did not say whether that is right."""
        first, done = self._tiers[0], False
        middle = self._tiers[1:-1]
        if not self._claimed.changed(claim, key):
            if first is self._tiers[-1]:
                return False
            for tier in reversed(middle):
                done |= self._ask(tier, partial(store, tier), False)
            kept: list[bool] = []
            if self._claimed.unless_changed(
                claim,
                key,
                lambda: kept.append(self._settle(watch, first, key, partial(store, first))),
            ):
                return kept[0] or done
            # Whoever changed it may have come past before it was there.
            for tier in middle:
                self._ask(tier, partial(tier.client.discard, key), False)
        claim.lost = True
        return False

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        now = self.clock.monotonic()
        written = dict.fromkeys(items, False)
        with contextlib.ExitStack() as watching:
            watches = {key: watching.enter_context(self._writing(key)) for key in items}
            for tier in reversed(self._tiers[1:]):
                stored = self._ask(
                    tier,
                    partial(tier.client.store_many, items, tier.deadline(deadline, now), keep=keep),
                    dict[Key, bool](),
                )
                for key, watch in watches.items():
                    written[key] |= stored.get(key, False)
                    watch.passed()
            first = self._tiers[0]
            life = first.deadline(deadline, now)
            for key, watch in watches.items():
                written[key] |= self._settle(
                    watch,
                    first,
                    key,
                    partial(first.client.store, key, items[key], life, keep=keep),
                )
        return written

    def touch(self, key: Key, deadline: float) -> bool:
        now = self.clock.monotonic()
        with self._writing(key) as watch:
            farthest = self._tiers[-1]
            if not self._ask(farthest, lambda: farthest.client.touch(key, deadline), False):
                # A nearer copy that the farthest tier does not back must not outlive it.
                return False
            if farthest.client.capabilities.shared:
                # Others may have replaced there what the nearer tiers have copies of.
                return self._write_down(
                    watch, key, lambda tier: tier.client.discard(key), farthest=True
                )
            return self._write_down(
                watch,
                key,
                lambda tier: tier.client.touch(key, tier.deadline(deadline, now)),
                farthest=True,
            )

    def outdate(self, key: Key) -> bool:
        with self._writing(key) as watch:
            return self._write_down(watch, key, lambda tier: tier.client.outdate(key))

    def discard(self, key: Key) -> bool:
        # As _write_down does it, with as few calls as possible: others serve what they hold
        # until this is done, and they are told of it.
        first, found = self._tiers[0], False
        state = self._generations.enter(key, True)
        try:
            for tier in self._farther:
                if tier is not self._farther[0]:
                    state.passed()
                try:
                    found |= tier.client.discard(key)
                except Exception as error:
                    self._pass_over(tier, error)
            try:
                with state.lock:
                    state.version += 1
                    found |= first.client.discard(key)
            except Exception as error:
                self._drop_again(first, key, error)
            return found
        except BaseException as error:
            self._broken_off(key, error)
            raise
        finally:
            self._generations.leave(key, state, True)

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        wanted = list(dict.fromkeys(keys))
        found = dict.fromkeys(wanted, False)
        with contextlib.ExitStack() as watching:
            watches = {key: watching.enter_context(self._writing(key)) for key in wanted}
            for tier in reversed(self._tiers):
                forget = partial(tier.client.discard_many, wanted)
                gone = self._forgotten(tier, forget, dict[Key, bool]())
                for key, watch in watches.items():
                    found[key] |= gone.get(key, False)
                    watch.passed()
        return found

    def drop_near(self, key: Key) -> None:
        # As a writer who came as far as the farthest tier in another process.
        first, farthest = self._tiers[0], self._tiers[-1]
        state = self._generations.enter(key, True)
        try:
            try:
                farthest.client.drop_near(key)
            except Exception as error:
                self._pass_over(farthest, error)
            for tier in self._farther[1:]:
                state.passed()
                try:
                    tier.client.discard(key)
                except Exception as error:
                    self._pass_over(tier, error)
            if first is not farthest:
                try:
                    with state.lock:
                        state.version += 1
                        first.client.discard(key)
                except Exception as error:
                    self._drop_again(first, key, error)
        finally:
            self._generations.leave(key, state, True)

    def sweep(self, before: float | None) -> int:
        swept = 0
        try:
            for tier in reversed(self._tiers):
                if before is None:
                    # The claims on what the tiers hold are theirs.
                    self._forgotten(tier, tier.client.clear, None)
                else:
                    swept += self._ask(tier, partial(tier.client.sweep, before), 0)
                self._generations.passed_all()
        except BaseException:
            if before is None:  # as in _broken_off, for all keys
                for tier in reversed(self._tiers[:-1]):
                    self._forgotten(tier, tier.client.clear, None)
                    self._generations.passed_all()
            raise
        return swept

    def _writing(self, key: Key) -> Watch:
        return self._generations.writing(key, self._broken_off)

    def _broken_off(self, key: Key, error: BaseException) -> None:
        """Who was writing *key* is interrupted, maybe after the farthest tier was written.

        What the nearer ones hold may be older than that, and nobody comes again to write them.
        """
        if not isinstance(error, KeyEncodingError):  # which is raised before anything is done
            self.drop_near(key)

    def _write_down(
        self,
        watch: Watch,
        key: Key,
        write: Callable[[Tier], bool],
        *,
        farthest: bool | None = None,
    ) -> bool:
        """*write* each tier from far to near; whether any said that it did something.

        *farthest* is what the farthest tier said, where that was written already.
        """
        done = farthest is True
        if farthest is not None:
            watch.passed()
        for tier in reversed(self._tiers[1 : None if farthest is None else -1]):
            done |= self._ask(tier, partial(write, tier), False)
            watch.passed()
        first = self._tiers[0]
        if farthest is not None and len(self._tiers) == 1:
            return done
        return self._settle(watch, first, key, partial(write, first)) or done

    def _settle(self, watch: Watch, tier: Tier, key: Key, write: Callable[[], bool]) -> bool:
        """Write the nearest tier; what cannot be written there must not stay as it was."""
        drop = partial(self._ask, tier, partial(tier.client.discard, key), False)
        errors = tier.errors
        written = watch.settle(partial(self._ask, tier, write, False), drop)
        if tier.errors > errors:
            self._forgotten(tier, partial(tier.client.discard, key), False)
        return written

    def _drop_again(self, tier: Tier, key: Key, error: Exception) -> None:
        """To drop *key* from the nearest *tier* has failed with *error*; it must not stay there."""
        self._pass_over(tier, error)
        self._forgotten(tier, partial(tier.client.discard, key), False)

    def _forgotten(self, tier: Tier, forget: Callable[[], T], fallback: T) -> T:
        """*forget*'s answer, or *fallback* if the tier fails: the nearest may hold it still.

        Called without a lock.
        """
        try:
            return forget()
        except Exception as error:
            self._pass_over(tier, error)
            if tier is self._tiers[0]:
                for told in tuple(self._kept):
                    told()
            return fallback

    def when_kept(self, told: Callable[[], object]) -> None:
        """Call *told* when what was to leave the nearest tier may be there still.

        That is when the tier has failed. *told* is to be quick, and not to raise.
        """
        self._kept.append(told)

    @cached_property
    def _farther(self) -> tuple[Tier, ...]:
        """All but the nearest, the farthest first."""
        return tuple(reversed(self._tiers[1:]))

    def _is_fresh(self, tier: Tier, key: Key, now: float) -> bool:
        entry = self._ask(tier, partial(tier.client.entry, key), None)
        return entry is not None and entry.deadline > now
