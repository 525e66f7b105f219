"""``files get``: the value of one key."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from tiered.cli.files.common import add_parser, add_secret, checksum_key_of
from tiered.cli.files.phrasing import Row, duration
from tiered.errors import CodecError, KeyEncodingError

if TYPE_CHECKING:
    from tiered.clients.files.inspection import Held, Inspection

__all__ = ["add_to"]

_NAME: Final = "tiered files get"
_DIGEST: Final = re.compile(r"#[0-9a-f]{40}")
_UNREADABLE: Final = 3

_DESCRIPTION = """\
Prints the value of a key. KEY is a Python literal, such as 17, "'17'" or "('page', 1)", or else
a text as it is; or # and the digest that 'files ls --json' shows.

Values that are signed are read with their secret only. Without a secret, values are unpickled only
where the directory belongs to this user and nobody else can write it. Of a value that cannot be
read here, the size, the age and the time that is left to it are told, which are not verified then.
"""

_EPILOG = """\
examples:
  python -m tiered files get /var/cache/app user:17
  APP_KEY=... python -m tiered files get /var/cache/app "('page', 1)" --checksum-key env:APP_KEY

exit codes: 0 printed; 1 nothing is held for the key, or it is stale; 2 wrong arguments, or no
directory of values; 3 a value is held, and cannot be read here
"""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "get",
        run,
        summary="the value of one key",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("key", metavar="KEY", help="a Python literal, or a text")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="write the value's bytes; of a text its UTF-8, of an array its memory",
    )
    parser.add_argument("--stale", action="store_true", help="also when its time is over")
    add_secret(parser)


def run(options: argparse.Namespace) -> int:
    """Print it; the exit status."""
    from tiered.clients.files.inspection import Inspection

    with Inspection(options.path, checksum_key=checksum_key_of(options)) as inspection:
        key = _key(options.key)
        held = _held(inspection, options.key, key)
        if held is None:
            return _missed(f"nothing is held for {options.key!r}{_hint(options.key, key)}")
        row = Row.of(held, inspection.now)
        if row.stale and not options.stale:
            over = duration(-row.ttl if row.ttl is not None else None)
            return _missed(f"{row.key} is stale since {over}; --stale shows it still")
        try:
            value = inspection.value(held)
        except CodecError as error:
            return _refused(row, inspection, error, raw=options.raw)
        except FileNotFoundError:
            return _missed(f"{row.key} was removed just now")
    return _written(value, raw=options.raw)


def _key(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _held(inspection: Inspection, text: str, key: Any) -> Held | None:
    if _DIGEST.fullmatch(text):
        return inspection.find_at(text[1:])
    try:
        return inspection.find(key)
    except KeyEncodingError as error:
        raise ValueError(f"KEY {text!r}: {error}") from error


def _hint(text: str, key: Any) -> str:
    if isinstance(key, str):
        return ""
    return f", which is of type {type(key).__name__}; the text is {repr(text)!r}"


def _missed(words: str) -> int:
    print(f"{_NAME}: {words}", file=sys.stderr)
    return 1


def _refused(row: Row, inspection: Inspection, error: CodecError, *, raw: bool) -> int:
    print(f"{_NAME}: {_reason(inspection, error)}", file=sys.stderr)
    if not raw:
        print("\n".join(_facts(row)))
    return _UNREADABLE


def _reason(inspection: Inspection, error: CodecError) -> str:
    if inspection.keyed or inspection.is_private:
        more = "" if inspection.keyed else "; if it was signed, --checksum-key tells the secret"
    else:
        more = (
            "; the directory is another user's, or others can write it, so nothing there is "
            "unpickled without --checksum-key"
        )
    return f"it cannot be read: {error}{more}"


def _facts(row: Row) -> Iterator[str]:
    yield f"key   {row.key}"
    yield f"file  {row.held.file}"
    yield f"size  {row.size:,} bytes"
    yield f"age   {duration(row.age)}"
    yield f"ttl   {duration(row.ttl)}"


def _written(value: Any, *, raw: bool) -> int:
    if not raw:
        print(repr(value))
        return 0
    try:
        data = value.encode() if isinstance(value, str) else memoryview(value)
    except TypeError:
        print(f"{_NAME}: --raw: a {type(value).__name__} has no bytes", file=sys.stderr)
        return _UNREADABLE
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    return 0
