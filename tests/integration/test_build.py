"""The package as it is built and installed: with a compiler, and without one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

USE = """
import sys
sys.path.insert(0, sys.argv[1])
# The developer's own editable installation would help out with what is missing here.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import tiered
assert tiered.__file__.startswith(sys.argv[1]), tiered.__file__
client = tiered.InprocCacheClient(2, policy="s3fifo")
f = tiered.cached(client, 60)(lambda x: object())
assert f(1) is f(1) is not f(2)
print(tiered.accelerated, f.stats.near_hits)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is in the repository, without what was built in this folder."""
    copy = tmp_path / "source"
    copy.mkdir()
    built = shutil.ignore_patterns("*.so", "_core.c", "__pycache__")
    shutil.copytree(ROOT / "tiered", copy / "tiered", ignore=built)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    return copy


def install(source: Path, **environment: str) -> Path:
    target = source.parent / "installed"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--target", str(target), str(source)),
        ],
        env={**os.environ, **environment},
        check=True,
        timeout=300,
    )
    return target


def used(target: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", USE, str(target)],
        env={**os.environ, "TIERED_PURE": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=target,
    )
    return done.stdout.strip()


def test_a_change_of_any_part_of_the_core_builds_it_anew() -> None:
    [core] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "ext-modules"
    ]
    parts = sorted(str(part.relative_to(ROOT)) for part in ROOT.glob("tiered/compiled/*.pxi"))
    assert sorted(core["depends"]) == parts
    included = re.findall('include "(.*)"', (ROOT / "tiered" / "_core.pyx").read_text())
    assert sorted(f"tiered/{part}" for part in included) == parts


def test_without_a_compiler_it_installs_and_works(source: Path) -> None:
    nothing = source.parent / "nothing"
    nothing.mkdir()
    target = install(source, PATH=str(nothing), CC="cc")
    assert not list(target.glob("tiered/_core*"))
    assert used(target) == "False 1"


@pytest.mark.skipif(
    not shutil.which(os.environ.get("CC", "cc"))
    or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="needs a C compiler and the headers of this Python",
)
def test_with_a_compiler_the_core_is_built(source: Path) -> None:
    target = install(source)
    (core,) = target.glob("tiered/_core*")
    assert core.suffix == ".so"
    assert used(target) == "True 1"
