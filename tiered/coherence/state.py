"""The protocol as tables: what each message means to a node or a broker, phase by phase.

Nothing here does I/O or asks for the time: a role is given a message (or the passing of
time) and the moment, changes its state, and returns what is to be done (:mod:`effects
<tiered.coherence.effects>`). What a role does is a :class:`Step` in its table; what has no
step there is counted and ignored, whatever it is and whenever it comes. The documentation
draws its diagrams from the same tables (:func:`diagram`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Phase", "Step", "Table", "diagram"]

RoleT = TypeVar("RoleT")


class Phase(enum.Enum):
    """Where a node stands.

    A broker is in one phase only: it has no history that it could have missed.
    """

    DETACHED = "detached"
    """No broker is known."""
    JOINING = "joining"
    """A broker was found, and has not welcomed us yet."""
    FOLLOWING = "following"
    """All events are applied, as far as is known: pongs extend the lease."""
    CATCHING_UP = "catching up"
    """Events are missing, and asked for."""
    SERVING = "serving"
    """A broker's."""

    # Enum's own is written in Python, and each message is looked up by the phase.
    __hash__ = object.__hash__


class Step(NamedTuple, Generic[RoleT]):
    """What to do on a message in a phase.

    Attributes:
        action: ``action(role, message, now)`` changes the role, and returns its next phase.
        leads_to: the phases that this can be.
        meaning: for people.
    """

    action: Callable[[RoleT, Any, float], Phase]
    leads_to: tuple[Phase, ...]
    meaning: str


Table = Mapping[tuple[Phase, type], Step[RoleT]]


def diagram(table: Table[Any]) -> str:
    """The state diagram of *table*, as Mermaid text."""
    lines = ["stateDiagram-v2", f"    [*] --> {_id(Phase.DETACHED)}"]
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, kind), step in table.items():
        for target in step.leads_to:
            if target is not phase:
                arrows.setdefault((phase, target), []).append(f"{kind.__name__}: {step.meaning}")
    for (source, target), labels in arrows.items():
        lines.append(f"    {_id(source)} --> {_id(target)} : {'<br>'.join(labels)}")
    return "\n".join(lines) + "\n"


def _id(phase: Phase) -> str:
    return phase.value.replace(" ", "_")
