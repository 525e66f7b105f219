"""Bound methods to be called when something happens, held weakly."""

from __future__ import annotations

import weakref
from collections.abc import Callable

__all__ = ["Listeners"]


class Listeners:
    """Those who want to know of one thing.

    Threads: safe; adding, copying and removing are one step of a set each.
    """

    def __init__(self) -> None:
        self._methods: set[weakref.WeakMethod[Callable[[], object]]] = set()

    def add(self, method: Callable[[], object]) -> None:
        """Call the bound *method* from now on, as long as its object lives."""
        self._methods.add(weakref.WeakMethod(method))

    def tell(self) -> None:
        """It has happened."""
        for reference in list(self._methods):
            method = reference()
            if method is None:
                self._methods.discard(reference)
            else:
                method()
