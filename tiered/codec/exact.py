"""Values that a data format gives back exactly: equal, and of the same types.

A tuple would come back as a list, and an ``IntEnum`` as a number; a cache that answers with
something else than was put is worse than one that does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tiered.errors import UnserializableValue

__all__ = ["ExactTypes"]


@dataclass(frozen=True)
class ExactTypes:
    """What a format gives back as it was: some types, and lists and dicts of them.

    Args:
        format: the format's name, for messages.
        leaves: the types of values that hold no others.
        keys: the types of the keys of dicts.
    """

    format: str
    leaves: frozenset[type]
    keys: frozenset[type]

    def holds(self, value: Any) -> bool:
        """Whether *value* and all in it are of these types.

        *value* must end somewhere, that is, hold itself nowhere: be asked after it was written.
        """
        # Not recursive, and by sets of types: this costs as much as writing the value otherwise.
        batches: list[Iterable[Any]] = [(value,)]
        while batches:
            batch = batches.pop()
            if self.leaves.issuperset(map(type, batch)):
                continue
            for item in batch:
                kind = type(item)
                if kind is list:
                    batches.append(item)
                elif kind is dict:
                    if not self.keys.issuperset(map(type, item)):
                        return False
                    batches.append(item.values())
                elif kind not in self.leaves:
                    return False
        return True

    def refusal(self, value: Any, reason: object = "") -> UnserializableValue:
        """What to raise for *value*: names the part that is at fault, or else the *reason*."""
        try:
            objection = self._objection(value, "value")
        except RecursionError:
            objection = f"the value is nested too deeply for {self.format}, or holds itself"
        if objection is None and isinstance(reason, UnicodeEncodeError):
            objection = f"a str is not valid Unicode: {reason}"
        return UnserializableValue(objection or f"{self.format} cannot hold the value: {reason}")

    def _objection(self, value: Any, where: str) -> str | None:
        kind = type(value)
        if kind in self.leaves:
            return None
        parts: Iterable[tuple[Any, Any]]
        if kind is list:
            parts = enumerate(value)
        elif kind is dict:
            for key in value:
                if type(key) not in self.keys:
                    names = ", ".join(sorted(known.__name__ for known in self.keys))
                    return f"{where} has the key {key!r}; {self.format} keys are {names}"
            parts = value.items()
        else:
            return f"{where} is a {kind.__name__}, which {self.format} cannot give back"
        for key, part in parts:
            objection = self._objection(part, f"{where}[{key!r}]")
            if objection is not None:
                return objection
        return None
