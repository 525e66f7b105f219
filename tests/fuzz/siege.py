"""One store under attack, and what it must keep to."""

from __future__ import annotations

import gc
import itertools
import math
import sys
import time
from typing import Any, Final

from tests.fuzz.helper import Helper
from tests.fuzz.hostile import Keys, Label, LastWords, Payload
from tests.fuzz.mischief import Census, Hostility
from tests.fuzz.program import Program
from tests.fuzz.stores import MakeStore, is_exact
from tiered.entry import ALWAYS, IF_ABSENT, IF_OLDER

__all__ = ["Broken", "Siege"]

_DEADLINES: Final = (0.0, 1.0, 2.5, 10.0, 100.0, math.inf, -math.inf, math.nan, 10**20, 7)
_WEIGHTS: Final = (0, 0.25, 0.5, 1, 1, 1, 2, 3, 8)
"""Their sums are exact."""
_BAD_WEIGHTS: Final = (-1, math.nan, "1", None, True)


class Broken(AssertionError):
    """A promise that was not kept."""


class Siege:
    """A store, and what is done to it.

    Args:
        make: the class of the store.
        program: what is done.

    Threads: :meth:`step` from any; the rest from one while no other is in a step.
    """

    def __init__(self, make: MakeStore, program: Program) -> None:
        self.program = program
        self.rng = program.rng
        self.census = Census()
        self.mischief = program.mischief()
        self.keys = Keys(
            self.mischief,
            self.census,
            spread=program.spread,
            count=program.labels,
            bulk=program.bulk,
            dying=0.2 if is_exact(make) else 0.0,
        )
        self.exact = is_exact(make) or (program.rate == 0 and not program.lies)
        self.broken: list[str] = []
        self.announced: set[int] = set()
        self._serials = itertools.count(1)
        self.hoard: list[Any] = []
        self.refuge: list[Any] = []
        self.store: Any = make(
            program.capacity,
            self._weigh if program.weighs else None,
            self._announced if program.announces else None,
        )
        self._operations = [
            *[self.get] * 8,
            *[self.put] * 8,
            *[self.remove] * 2,
            *[self.touch, self.expire, self.sweep, self.look] * 1,
        ]
        self._rare = [self.clear, self.flood, self.push_out]
        self._helper = Helper(self.step) if program.helped else None
        self.mischief.actions += [
            *[self.operate] * 8,
            self.put,
            *[self.flood, self.push_out, self.clear] * 2,
            self.drop,
            self.drop,
            self.collect,
            self.switch,
            self.descend,
        ]
        if self._helper is not None:
            self.mischief.actions += [self._helper.ask] * 4

    # -- What is done ------------------------------------------------------------

    def step(self) -> None:
        """One operation; what hostile code raises ends it, and what else is raised is a bug."""
        self.mischief.renew()
        try:
            self.operate()
        except Hostility:
            pass
        except BaseException as error:
            self.broken.append(f"an operation raised {error!r}")

    def operate(self) -> None:
        """One operation by chance."""
        self.rng.choice(self._operations if self.rng.random() < 0.995 else self._rare)()

    def get(self) -> None:
        """Read."""
        label = self.keys.any_label()
        key = self.keys.make(label)
        hot_path = getattr(self.store, "hot_path", None)
        if hot_path is None or self.rng.random() < 0.7:
            found = self.store.entry(key)
        else:
            lookup, note = hot_path()[:2]
            found = lookup(key)
            if found is not None and note is not None:
                try:
                    note(found.place)
                except KeyError:
                    pass  # gone just now
        if found is not None:
            self._check_entry(label, found)

    def put(self, label: Label | None = None) -> None:
        """Write."""
        if label is None:
            label = self.keys.any_label()
        key = self.keys.make(label)
        value = self._payload(label, key)
        condition = self.rng.choice((ALWAYS, ALWAYS, ALWAYS, IF_ABSENT, IF_OLDER))
        deadline, now = self.rng.choice(_DEADLINES), self.rng.choice(_DEADLINES)
        self.hoard.append(key)
        self.hoard.append(value)
        del self.hoard[: max(0, len(self.hoard) - self.rng.randint(0, self.program.kept))]
        try:
            if condition is ALWAYS:
                done = self.store.put(key, value, deadline, now)
            else:
                done = self.store.put(key, value, deadline, now, condition)
        except (TypeError, ValueError) as error:
            if isinstance(error, Hostility) or "weigher" not in str(error):
                raise
        else:
            self._expect_type(done, bool)

    def remove(self) -> None:
        """Delete."""
        self._expect_type(self.store.remove(self._any_key()), bool)

    def touch(self) -> None:
        """A longer life."""
        self._expect_type(self.store.touch(self._any_key(), self.rng.choice(_DEADLINES)), bool)

    def expire(self) -> None:
        """A shorter one."""
        self._expect_type(self.store.expire(self._any_key(), self.rng.choice(_DEADLINES)), bool)

    def sweep(self) -> None:
        """What is stale goes."""
        self._expect_type(self.store.sweep(self.rng.choice(_DEADLINES)), int)

    def clear(self) -> None:
        """Everything goes."""
        self._expect_type(self.store.clear(), int)

    def look(self) -> None:
        """What only looks."""
        if len(self.store) < 0 or not self.store.usage >= 0:
            self.broken.append(f"len {len(self.store)}, usage {self.store.usage}")
        if self.store.capacity != self.program.capacity:
            self.broken.append(f"capacity {self.store.capacity}")
        repr(self.store)
        sys.getsizeof(self.store)
        gc.get_referents(self.store)

    def flood(self) -> None:
        """Many writes at once: growth."""
        for label in self.keys.bulk:
            self.put(label)

    def push_out(self) -> None:
        """What is being compared just now may be evicted by these."""
        for _ in range(min(100, int(min(self.program.capacity, 100)) + 1)):
            self.put()

    def drop(self) -> None:
        """Perhaps the last references to things."""
        self.hoard.clear()
        self.refuge.clear()

    def collect(self) -> None:
        """The collector, most often of what is young."""
        gc.collect(self.rng.choice((0, 0, 0, 0, 0, 0, 1, 2)))

    def switch(self) -> None:
        """Another thread's turn."""
        time.sleep(0)

    def descend(self) -> None:
        """The same from deep down the stack."""

        def down(levels: int) -> None:
            if levels:
                down(levels - 1)
            else:
                self.operate()

        down(self.rng.choice((10, 60, 150)))

    # -- Callbacks ---------------------------------------------------------------

    def _weigh(self, key: Any, value: Any) -> Any:
        self.mischief.strike()
        if not self.mischief.quiet and self.rng.random() < 0.01:
            return self.rng.choice(_BAD_WEIGHTS)
        return value.weight

    def _announced(self, key: Any, value: Any, cause: str) -> None:
        if value.serial in self.announced and self.exact:
            self.broken.append(f"{value.label} #{value.serial} was announced twice ({cause})")
        if cause not in ("size", "expired"):
            self.broken.append(f"the cause {cause!r}")
        self.announced.add(value.serial)
        self.mischief.strike()

    # -- Helpers -----------------------------------------------------------------

    def _any_key(self) -> Any:
        return self.keys.make(self.keys.any_label())

    def _payload(self, label: Label, key: Any) -> Payload:
        serial = next(self._serials)
        rng = self.rng
        kind = LastWords if rng.random() < self.program.dying else Payload
        value = kind(label, serial, rng.choice(_WEIGHTS), self.mischief)
        if isinstance(value, LastWords):
            value.refuge = self.refuge
        if rng.random() < 0.1:
            value.bond = rng.choice((self.store, value, key, [value, self.store], self))
        self.census.add(value)
        return value

    def _expect_type(self, answer: object, kind: type) -> None:
        if type(answer) is not kind:
            self.broken.append(f"answered {answer!r} instead of {kind.__name__}")

    def _check_entry(self, label: Label, found: Any) -> None:
        value = found.value
        if not isinstance(value, Payload) or value.serial < 1:
            self.broken.append(f"{label} holds {value!r}, which was never stored")
        elif value.label != label and not self.program.lies:
            self.broken.append(f"{label} holds the value of {value.label}")
        if found.deadline not in _DEADLINES and found.deadline == found.deadline:
            self.broken.append(f"{label} has the deadline {found.deadline!r}")

    # -- Promises ----------------------------------------------------------------

    def check(self) -> None:
        """Everything that can be asked of the store from outside, while nothing happens.

        Raises:
            Broken: a promise was not kept.
        """
        if self._helper is not None:
            self._helper.rest()
        with self.mischief.silenced():
            self._check_contents()
        self._raise_broken()

    def _raise_broken(self) -> None:
        if self.broken:
            raise Broken("; ".join(dict.fromkeys(self.broken[:5])))

    def _check_contents(self) -> None:
        found: dict[Label, Payload] = {}
        for label in self.keys.all_labels():
            entry = self.store.entry(self.keys.make(label))
            if entry is not None:
                self._check_entry(label, entry)
                found[label] = entry.value
        size, usage, capacity = len(self.store), self.store.usage, self.program.capacity
        weights = (value.weight if self.program.weighs else 1 for value in found.values())
        self._expect(usage <= capacity or size <= 1, f"usage {usage} of {capacity}, len {size}")
        if not self.exact:
            return
        gone = [value.serial for value in found.values() if value.serial in self.announced]
        self._expect(not gone, f"announced as evicted, and there: {gone[:5]}")
        if self.program.lies:
            return
        self._expect(size == len(found), f"len {size}, but {len(found)} found")
        weight = sum(weights)
        self._expect(usage == weight, f"usage {usage}, but the weights are {weight} together")
        for label in self.rng.sample([*found], min(5, len(found))):
            self._expect(self.store.remove(self.keys.make(label)), f"{label} was not removed")
            self._expect(self.store.entry(self.keys.make(label)) is None, f"{label} is there twice")
            size -= 1
            self._expect(len(self.store) == size, f"len {len(self.store)} after a removal")

    def _expect(self, kept: object, otherwise: str) -> None:
        if not kept:
            self.broken.append(otherwise)

    def end(self) -> None:
        """Take everything apart; nothing may be left.

        Raises:
            Broken: something was, or the store did not come out empty.
        """
        self.check()
        ending = self.rng.choice(("remove", "clear", "sweep", "drop"))
        if self._helper is not None:
            self._helper.stop()
            self._helper = None
        self.mischief.quiet = ending != "drop"
        store = self.store
        if ending == "remove":
            for label in self.keys.all_labels():
                while store.remove(self.keys.make(label)):
                    pass
        elif ending == "sweep":
            store.sweep(math.inf)
            store.clear()
        elif ending == "clear":
            size = len(store)
            self._expect(store.clear() == size, "clear() counted wrongly")
        emptied = ending in ("clear", "sweep") or (self.exact and not self.program.lies)
        if ending != "drop" and emptied:
            self._expect(len(store) == 0, f"len {len(store)} after {ending}")
            self._expect(store.usage == 0, f"usage {store.usage} after {ending}")
        del store
        self._leave()
        self._raise_broken()

    def _leave(self) -> None:
        """Let go of everything, and look who stays."""
        self.store = None
        actions: tuple[list[Any], ...] = (self.mischief.actions, self._operations, self._rare)
        for some in actions:
            some.clear()
        self._forget()
        self.mischief.quiet = True
        left = len(self.census)
        for _ in range(5):
            self._forget()
            left = len(self.census)
            if not left:
                return
        examples = [type(one).__name__ for one in self.census.living()[:5]]
        self._expect(not left, f"{left} objects of {self.census.born} stay: {examples}")

    def _forget(self) -> None:
        self.hoard.clear()
        self.refuge.clear()
        gc.collect()
