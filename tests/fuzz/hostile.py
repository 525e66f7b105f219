"""Keys and values whose every method may do anything.

A key has a *label*, the name of its class of equal keys: two keys are equal if and only if
their labels are. Keys of one label come in several forms: a ``str``, a subclass of it, a
pair, a subclass of ``tuple`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from tests.fuzz.mischief import Census, Mischief

__all__ = ["Hostile", "Keys", "Label", "LastWords", "Payload"]

Label: TypeAlias = tuple[Any, ...]

_NAN: Final = float("nan")
_PRIME: Final = 2**61 - 1
"""All its multiples have the hash 0."""
_LAST: Final = 8.0
"""How much likelier than elsewhere mischief is in the end: most objects have only one."""
_SPACES: Final = ("app@1", "app@2", "a namespace with a longer name@0123456789abcdef")


class Hostile:
    """A key with mischief in its hash, its comparison, its ``repr`` and its end."""

    __slots__ = ("__weakref__", "code", "label", "mischief")

    def __init__(self, label: Label, code: int, mischief: Mischief) -> None:
        self.label = label
        self.code = code
        self.mischief = mischief

    def __hash__(self) -> int:
        self.mischief.strike()
        if self.mischief.lies and self.mischief.rng.random() < 0.01 and self.mischief.lying():
            return self.mischief.rng.getrandbits(60)
        return self.code

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Hostile):
            return NotImplemented
        self.mischief.strike()
        return self.mischief.verdict(self.label == other.label)

    def __repr__(self) -> str:
        self.mischief.strike()
        return f"<Hostile {self.label}>"


class Dying(Hostile):
    """One that does it once more in the end."""

    __slots__ = ()

    def __del__(self) -> None:
        self.mischief.strike(_LAST)


class PlainText(str):
    """A ``str`` that is not exactly one."""


class Text(str):
    """The same, with mischief."""

    mischief: Mischief

    def __hash__(self) -> int:
        self.mischief.strike()
        return super().__hash__()

    def __eq__(self, other: object) -> Any:
        self.mischief.strike()
        return super().__eq__(other)


class PlainPair(tuple[Any, ...]):
    """A ``tuple`` that is not exactly one."""

    __slots__ = ()


class Pair(tuple[Any, ...]):
    """The same, with mischief."""

    mischief: Mischief

    def __hash__(self) -> int:
        self.mischief.strike()
        return super().__hash__()

    def __eq__(self, other: object) -> Any:
        self.mischief.strike()
        return super().__eq__(other)


class Keys:
    """Makes keys of any label, in any of its forms.

    Args:
        mischief: of all of them.
        spread: how many different hashes hostile keys have.
        count: how many labels of each family.
        bulk: how many more labels, for insertions by the hundred.
        dying: the share of hostile keys that do something in the end. (Where a ``dict`` holds
            them, that can crash CPython 3.11 by itself.)
    """

    def __init__(
        self,
        mischief: Mischief,
        census: Census,
        *,
        spread: int,
        count: int,
        bulk: int = 0,
        dying: float = 0.0,
    ) -> None:
        self._mischief = mischief
        self._census = census
        self._spread = spread
        self._dying = dying
        rng = mischief.rng
        families: list[Label] = [
            ("text",),
            ("number",),
            ("multiple",),
            ("hostile",),
            ("tail",),
            ("triple",),
            *(("pair", space) for space in _SPACES),
            *(("numbered", space) for space in _SPACES),
            *(("hidden", space) for space in _SPACES),
        ]
        chosen = rng.sample(families, rng.randint(3, len(families)))
        self.labels: list[Label] = [(*family, n) for family in chosen for n in range(count)]
        self.labels += [("nan",), ("nan", _SPACES[0])]
        self.bulk: list[Label] = [("bulk", n) for n in range(bulk)]
        self._forms: dict[str, Callable[[Label], Any]] = {
            "text": lambda label: self._text(f"k{label[1]}"),
            "number": lambda label: rng.choice((int, float))(label[1]),
            "multiple": lambda label: (label[1] + 1) * _PRIME,
            "hostile": self._hostile,
            "tail": lambda label: self._tuple(self._hostile(label), "tail"),
            "triple": lambda label: (_SPACES[0], label[1], self._hostile(label)),
            "pair": lambda label: self._pair(label[1], self._text(f"k{label[2]}")),
            "numbered": lambda label: self._pair(label[1], label[2]),
            "hidden": lambda label: self._pair(label[1], self._hostile(label)),
            "nan": lambda label: _NAN if len(label) == 1 else (label[1], _NAN),
            "bulk": lambda label: 1_000_000 + label[1],
        }

    def all_labels(self) -> list[Label]:
        """Of every key that could have been made here."""
        return self.labels + self.bulk

    def any_label(self) -> Label:
        """One by chance."""
        return self._mischief.rng.choice(self.labels)

    def make(self, label: Label) -> Any:
        """A key of *label*, in a form by chance."""
        return self._forms[label[0]](label)

    def _hostile(self, label: Label) -> Hostile:
        kind = Dying if self._mischief.rng.random() < self._dying else Hostile
        key = kind(label, label[-1] % self._spread * 64, self._mischief)
        self._census.add(key)
        return key

    def _text(self, text: str) -> str:
        form = self._mischief.rng.randrange(8)
        if form == 0:
            return PlainText(text)
        if form == 1:
            hostile = Text(text)
            hostile.mischief = self._mischief
            self._census.add(hostile)
            return hostile
        return text

    def _pair(self, space: str, rest: Any) -> Any:
        return self._tuple(self._text(space), rest)

    def _tuple(self, *items: Any) -> Any:
        form = self._mischief.rng.randrange(8)
        if form == 0:
            return PlainPair(items)
        if form == 1:
            hostile = Pair(items)
            hostile.mischief = self._mischief
            return hostile
        return items


class Payload:
    """A value that knows whose it is.

    Attributes:
        label: of the key that it is stored under.
        serial: no other has it.
        weight: what a weigher answers.
        bond: any object, for cycles.
    """

    __slots__ = ("__weakref__", "bond", "label", "mischief", "serial", "weight")

    def __init__(self, label: Label, serial: int, weight: float, mischief: Mischief) -> None:
        self.label = label
        self.serial = serial
        self.weight = weight
        self.mischief = mischief
        self.bond: Any = None


class LastWords(Payload):
    """One that does something in the end: uses what it is bound to, fails, or lives on."""

    __slots__ = ("refuge",)

    refuge: list[Any]

    def __del__(self) -> None:
        if self.mischief.quiet:
            return
        if self.mischief.rng.random() < 0.2:
            self.refuge.append(self)
        self.mischief.strike(_LAST)
