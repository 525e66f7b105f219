"""Who hears of the events in a process, by topic."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from tiered.coherence.bus import Member
from tiered.coherence.messages import ALL_TOPICS, Block, Event, Kind, unpacked

__all__ = ["Members"]

_Reference: TypeAlias = weakref.ref[Member]


class Members:
    """The members of a bus in this process; they are held weakly.

    Threads: safe. Members are called by whoever calls, while no lock is held.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may join, too
        self._by_topic: dict[bytes, tuple[_Reference, ...]] = {}
        """Replaced as a whole, never changed, as others walk through it."""

    def join(self, member: Member) -> None:
        """Have *member* hear of its topic."""
        with self._lock:
            known = self._by_topic.get(member.topic, ())
            if not any(reference() is member for reference in known):
                self._replace(member.topic, (*known, weakref.ref(member)))

    def leave(self, member: Member) -> None:
        """Have *member* hear no more."""
        with self._lock:
            known = self._by_topic.get(member.topic, ())
            self._replace(member.topic, [one for one in known if one() is not member])

    def _replace(self, topic: bytes, members: Iterable[_Reference]) -> None:
        living = tuple(reference for reference in members if reference() is not None)
        self._by_topic = {**self._by_topic, topic: living}
        if not living:
            del self._by_topic[topic]

    def of(self, topic: bytes) -> list[Member]:
        """Those of *topic*, and those of all topics."""
        by_topic = self._by_topic
        named = by_topic.get(topic, ()) + by_topic.get(ALL_TOPICS, ())
        return [member for reference in named if (member := reference()) is not None]

    @property
    def all(self) -> list[Member]:
        """All of them."""
        groups = self._by_topic.values()
        return [member for group in groups for one in group if (member := one()) is not None]

    # -- Events ----------------------------------------------------------------------
    # Each walks by itself, instead of asking `of`: one call less in each event.

    def hear_of(
        self, kind: Kind, topic: bytes, names: Sequence[bytes], source: Member | None
    ) -> None:
        """Tell all but *source* of events of this very process."""
        by_topic = self._by_topic
        for reference in by_topic.get(topic, ()) + by_topic.get(ALL_TOPICS, ()):
            member = reference()
            if member is None or member is source:
                continue
            if kind is Kind.DISTRUST:
                member.distrust("another client of this process may have missed events")
            else:
                member.hear([Event(kind, topic, name) for name in names])

    def hear(self, block: Block, noticed: Collection[int]) -> None:
        """Tell them of the events in *block*; of those that were *noticed*, who has waited."""
        heard: dict[bytes, list[Event]] = {}
        fresh: dict[bytes, list[Event]] = {}
        by_topic = self._by_topic
        try:
            for number, event in enumerate(unpacked(block.size, block.events)):
                if event.kind is Kind.DISTRUST:
                    self.distrust(event.topic, "another node may have missed events")
                elif event.topic in by_topic or ALL_TOPICS in by_topic:
                    heard.setdefault(event.topic, []).append(event)
                    if noticed and number not in noticed:
                        fresh.setdefault(event.topic, []).append(event)
        except ValueError:
            # Somebody who has the key speaks another language: what it said is not known.
            self.distrust(ALL_TOPICS, "events that make no sense")
        for topic, events in heard.items():
            for reference in by_topic.get(topic, ()) + by_topic.get(ALL_TOPICS, ()):
                member = reference()
                if member is None:
                    continue
                if not noticed or not _is_eager(member):
                    member.hear(events)
                elif topic in fresh:
                    member.hear(fresh[topic])

    def notice(self, event: Event) -> None:
        """Tell those of *event*, ahead of its turn, who want to know at once."""
        by_topic = self._by_topic
        for reference in by_topic.get(event.topic, ()) + by_topic.get(ALL_TOPICS, ()):
            member = reference()
            if member is not None and _is_eager(member):
                member.hear((event,))

    def distrust(self, topic: bytes, reason: str) -> None:
        """Tell those of *topic* that events may be missing."""
        for member in self.all if topic == ALL_TOPICS else self.of(topic):
            member.distrust(reason)


def _is_eager(member: Member) -> bool:
    return bool(getattr(member, "eager", False))
