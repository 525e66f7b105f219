"""The picture and the table of a node's phases are what the node runs on."""

from __future__ import annotations

import importlib.util
import pathlib
from types import ModuleType

from tiered.coherence.node import NODE_TABLE
from tiered.coherence.state import Phase

ROOT = pathlib.Path(__file__).parent.parent.parent


def drawer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "tools" / "draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_drawn_from_the_table() -> None:
    drawn = drawer().drawing()
    assert (ROOT / "docs" / "states.svg").read_text() == drawn, "run tools/draw_states.py"


def test_the_page_has_a_row_for_each_step_of_the_table() -> None:
    page = (ROOT / "docs" / "explanation" / "coherence.md").read_text()
    assert drawer().rows() in page, "put what tools/draw_states.py prints into coherence.md"


def test_every_phase_of_a_node_has_its_place() -> None:
    phases = {phase for phase, _ in NODE_TABLE}
    assert phases == set(Phase) - {Phase.SERVING}
