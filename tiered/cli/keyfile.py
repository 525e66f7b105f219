"""Files with secrets: one a line."""

from __future__ import annotations

from pathlib import Path

__all__ = ["lines_of", "text_of"]


def lines_of(option: str, path: str) -> list[str]:
    """The secrets in the file that *option* names, one a line. Raises ``ValueError``."""
    lines = [line.strip() for line in text_of(option, path).splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise ValueError(f"{option} {path!r} holds no key")
    return found


def text_of(option: str, path: str) -> str:
    """What the file contains. Raises ``ValueError``."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{option} {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{option} {path!r} is no text") from error
