"""The demo's job: metrics of the Python modules on this machine, asked for as people ask."""

from __future__ import annotations

import ast
import itertools
import random
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

__all__ = ["ModuleMetrics", "find_modules", "module_metrics", "zipf_requests"]

_MODULES = 600
_LARGEST = 200_000


class ModuleMetrics(TypedDict):
    """What the expensive function finds out about one source file."""

    path: str
    lines: int
    functions: int
    classes: int
    imports: int
    seconds: float


def find_modules(limit: int = _MODULES) -> list[str]:
    """Source files of the installed modules, the standard library's first, in a fixed order."""
    standard = Path(sysconfig.get_path("stdlib"))
    installed = Path(sysconfig.get_path("purelib"))
    files: list[Path] = []
    for folder in (standard, installed):
        files += sorted(
            path
            for path in folder.rglob("*.py")
            if "test" not in path.parts
            and "tests" not in path.parts
            and "site-packages" not in path.relative_to(folder).parts
        )
    # Not in the order of folders, or the popular ones would all be of one package.
    random.Random("modules").shuffle(files)  # noqa: S311
    small = (str(path) for path in files if path.is_file() and 0 < path.stat().st_size < _LARGEST)
    return list(itertools.islice(small, limit))


def module_metrics(path: str) -> ModuleMetrics:
    """Parse the file and count: milliseconds of honest work."""
    started = time.perf_counter()
    source = Path(path).read_bytes()
    counts = {"functions": 0, "classes": 0, "imports": 0}
    try:
        tree: ast.AST = ast.parse(source)
    except (SyntaxError, ValueError):
        tree = ast.Module(body=[], type_ignores=[])  # e.g. a template; it has its lines
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            counts["functions"] += 1
        elif isinstance(node, ast.ClassDef):
            counts["classes"] += 1
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            counts["imports"] += 1
    return ModuleMetrics(
        path=path,
        lines=source.count(b"\n"),
        functions=counts["functions"],
        classes=counts["classes"],
        imports=counts["imports"],
        seconds=time.perf_counter() - started,
    )


def zipf_requests(modules: Sequence[str], seed: int, exponent: float = 0.9) -> Iterator[str]:
    """Endless requests; the n-th module gets ``1 / n ** exponent`` times those of the first."""
    weights = [1.0 / rank**exponent for rank in range(1, len(modules) + 1)]
    cumulated = list(itertools.accumulate(weights))
    chance = random.Random(seed)  # noqa: S311
    while True:
        yield from chance.choices(modules, cum_weights=cumulated, k=1000)


def python_version() -> str:
    """For the report."""
    return sys.version.split()[0]
