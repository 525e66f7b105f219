"""The parts of the suite: their tables name what there is, and each module is in one."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import pytest

from tests.parts import ALONE, ONCE, PARTS, part_of

TESTS = Path(__file__).parents[1]
MAKEFILE = TESTS.parent / "Makefile"


@pytest.mark.parametrize("path", [*ONCE, *ALONE])
def test_what_is_named_is_there(path: str) -> None:
    assert (TESTS / path).exists()


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("unit/test_keys.py", "twice"),
        ("unit/test_typing.py", "once"),
        ("docs/test_move_from_dogpile.py", "once"),
        ("integration/coherence/test_splits.py", "once-alone"),
        ("integration/coherence/test_node_faults.py", "twice-alone"),
    ],
)
def test_a_module_belongs_to_one_part(path: str, part: str) -> None:
    assert (TESTS / path).exists()
    assert part_of(PurePath(path)) == part


def test_make_runs_each_part_as_often_as_it_says() -> None:
    if not MAKEFILE.exists():
        pytest.skip("installed without the Makefile")
    run = re.findall(r"--part=(\S+)", MAKEFILE.read_text())
    assert sorted(run) == sorted([part for part in PARTS for _ in range(1 + ("twice" in part))])
