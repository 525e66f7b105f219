"""Tests of a role's table, and which of its rows each of them is about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

from tiered.coherence.state import Phase

__all__ = ["Rows"]

Row = tuple[Phase, type]


class Rows:
    """Notes the rows that tests say they are about, and sees to it that these take them.

    Args:
        module, name: where the role looks its table up.
    """

    def __init__(self, module: ModuleType, name: str) -> None:
        self._module = module
        self._name = name
        self.tested: set[Row] = set()

    @property
    def all(self) -> set[Row]:
        return set(getattr(self._module, self._name))

    def __call__(self, *rows: Row) -> Callable[[Callable[..., None]], Callable[..., None]]:
        def mark(test: Callable[..., None]) -> Callable[..., None]:
            self.tested.update(rows)

            @functools.wraps(test)
            def run(*args: Any, **kwargs: Any) -> None:
                noting = _Noting(getattr(self._module, self._name))
                with mock.patch.object(self._module, self._name, noting):
                    test(*args, **kwargs)
                # One of them at least: with parameters, each is about another one.
                assert noting.used & set(rows), noting.used

            return run

        return mark


class _Noting(dict[Row, Any]):
    def __init__(self, table: dict[Row, Any]) -> None:
        super().__init__(table)
        self.used: set[Row] = set()

    def get(self, row: Row, default: Any = None) -> Any:
        self.used.add(row)
        return super().get(row, default)
