"""Packs of files that are small enough for tests to fill."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiered.clients.files.layout import allocated
from tiered.clients.files.names import PACKS, pack_of
from tiered.clients.files.packs import index as index_module
from tiered.clients.files.packs import lanes as lanes_module

VALUE = 40
"""Characters of the name of a value's file."""


def on_disk(path: Path) -> int:
    """Bytes that values take in a directory, in packs and in files of their own."""
    total = 0
    for file in [*path.glob("??/*"), *path.glob(f"{PACKS}/*")]:
        try:
            size = file.stat().st_size
        except FileNotFoundError:
            continue
        if pack_of(file.name) is not None:
            total += size
        elif len(file.name) == VALUE:
            total += allocated(size)
    return total


def small_lanes(patch: pytest.MonkeyPatch, *, places: int, pack: int, slots: int = 0) -> None:
    """Lay new directories out with small packs and indexes, so that few values fill them."""
    usual = lanes_module.Shape

    def small(size: int) -> lanes_module.Shape:
        shape = usual(size)
        if shape.pack:
            shape.pack, shape.slots = pack, slots or shape.slots
        return shape

    patch.setattr(lanes_module, "_SMALLEST_PACK", pack)
    patch.setattr(lanes_module, "Shape", small)
    patch.setattr(index_module, "_FEWEST", places)
    patch.setattr(index_module.Index.make, "__kwdefaults__", {"places": places})
    patch.setattr(index_module.index_size, "__defaults__", (places,))
