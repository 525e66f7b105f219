"""Which test modules run the same Python with the compiled core and without it.

Runs the tests that are given twice, compiled and pure, and compares which lines of the package each
module's tests ran. Where they are the same lines, the core took no part, and the second run shows
nothing new: such a module belongs into ``tests/parts.py``. What child processes run is not seen.

    python tools/find_once.py tests/unit
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parents[1]
Lines = dict[str, set[tuple[str, int]]]


def ran(arguments: list[str], data: Path, pure: bool) -> Lines:
    """The lines of the package that the tests of each module ran."""
    command = [sys.executable, "-m", "pytest", "-q", "--cov", "--cov-context=test"]
    command += ["--cov-report=", "--cov-fail-under=0", *arguments]
    environment = {"TIERED_PURE": "1" if pure else "0", "COVERAGE_FILE": str(data), "CI": "true"}
    subprocess.run(command, env=os.environ | environment, cwd=ROOT, check=False)
    found = CoverageData(str(data))
    found.read()
    lines: Lines = defaultdict(set)
    for name in found.measured_files():
        for line, contexts in found.contexts_by_lineno(name).items():
            for context in contexts:
                # e.g. tests/unit/test_ring.py::test_it|run
                lines[context.partition("::")[0]].add((name, line))
    del lines[""]  # outside of tests: imports
    return lines


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        compiled, pure = (
            ran(sys.argv[1:], Path(folder) / f"coverage-{pure}", pure) for pure in (False, True)
        )
    for module in sorted(compiled | pure):
        differing = {Path(name).name for name, _ in compiled[module] ^ pure[module]}
        print(module, "differs in" if differing else "same", *sorted(differing))


if __name__ == "__main__":
    main()
