"""Circles of waiting, found before they close.

A computation may ask for what another one computes, which may wait for the first:
by itself, through threads, tasks or both. Each computation runs in a context
(:mod:`contextvars`) that knows the flights it leads. Threads that a task or a pool
starts on its behalf inherit that context, so that they count as the computation.
Whoever is about to wait follows the waits from there, and is told if they lead back.

The lock is held for a walk along the waits, which ends because no circle is ever
let in; whoever computes nothing waits without it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Protocol

from tiered.concurrency import fork

__all__ = [
    "CircularWait",
    "Link",
    "computing",
    "detach",
    "enter",
    "follow",
    "leave",
    "waiting",
]


class CircularWait(Exception):
    """Waiting would never end."""


class Link(Protocol):
    """What can be waited for, and can wait.

    Attributes:
        waits_for: what it waits for just now; kept by this module, under its lock.
    """

    waits_for: list[Link]

    @property
    def ended(self) -> bool: ...


_led: ContextVar[tuple[Link, ...]] = ContextVar("tiered.led", default=())


class _Lock:
    """One lock for the process."""

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Whoever held it is not in this process."""
        self.lock = threading.RLock()


_shared = _Lock()


def enter(link: Link) -> Token[tuple[Link, ...]]:
    """From here on in this context, *link* is being computed; to be followed by :func:`leave`."""
    return _led.set((*_led.get(), link))


def leave(token: Token[tuple[Link, ...]]) -> None:
    """The computation that :func:`enter` gave *token* for has ended."""
    try:
        _led.reset(token)
    except ValueError:
        pass  # a coroutine of a loop that is gone, closed elsewhere: its context went too


@contextmanager
def computing(link: Link) -> Iterator[None]:
    """Around the computation of *link*."""
    token = enter(link)
    try:
        yield
    finally:
        leave(token)


def detach() -> None:
    """From here on in this context, whatever runs is waited for by no computation."""
    _led.set(())


def follow(link: Link, leader: Link) -> None:
    """*link* is computed as a part of *leader*: who waits for one waits for the other."""
    with _shared.lock:
        link.waits_for.append(leader)


@contextmanager
def waiting(link: Link) -> Iterator[None]:
    """While whoever computes in this context waits for *link*.

    Raises:
        CircularWait: *link* waits, maybe through others, for what is computed here.
    """
    # A task may outlive the computation that started it: then it waits for itself only.
    mine = [led for led in _led.get() if not led.ended]
    if not mine:
        yield
        return
    with _shared.lock:
        if _reaches(link, mine):
            raise CircularWait
        for led in mine:
            led.waits_for.append(link)
    try:
        yield
    finally:
        with _shared.lock:
            for led in mine:
                led.waits_for.remove(link)


def _reaches(start: Link, goals: Iterable[Link]) -> bool:
    wanted = {id(goal) for goal in goals}
    seen: set[int] = set()
    ahead = [start]
    while ahead:
        link = ahead.pop()
        if id(link) in wanted:
            return True
        if id(link) not in seen:
            seen.add(id(link))
            ahead.extend(link.waits_for)
    return False
