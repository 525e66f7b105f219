"""What the page on moving from dogpile.cache says of its two programs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "move-from-dogpile.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_its_command_makes_the_one_program_of_the_other(tmp_path: Path) -> None:
    before, after = _blocks("python")[:2]
    [command] = _blocks("sh")
    program = tmp_path / "folder of a program" / "shop.py"
    program.parent.mkdir()
    program.write_text(before)
    other = tmp_path / "settings.ini"
    other.write_text("cache.backend = dogpile.cache.memory\n")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    assert program.read_text() == after != before
    assert other.read_text() == "cache.backend = dogpile.cache.memory\n"
