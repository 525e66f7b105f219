"""Packs after a process has ended at any point of an operation.

A forked child runs the operation, and ends before the n-th line of it, for each n at which the
directory has changed: nothing is undone, nothing is finished. What it leaves is seen through the
eyes of a client that was there before, with its files open, and of one that comes after.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, TypeAlias

import pytest

from tests.packed import on_disk, small_lanes
from tiered import FilesCacheClient
from tiered.clients.files import packs
from tiered.clients.files.names import COUNTS, LANES, pack_name
from tiered.clients.files.packs import cleaning
from tiered.clients.files.packs.lanes import Cell
from tiered.testing import ManualClock

SIZE: Final = 16 << 20
POINTS: Final = int(os.environ.get("TIERED_CRASHES", "7"))
"""Of each operation, at which it ends."""

_FOLDER: Final = str(Path(packs.__file__).parent.parent)
_CHANGING: Final = tuple(
    f"{name}.py"
    for name in (
        *("store", "stock", "files", "index", "lanes", "entries", "scan", "tree", "counts"),
        "sharing",
    )
)
_READING: Final = frozenset(
    (
        *("get", "has", "slot", "_at", "of", "find", "packs", "packs_of", "lengths_of", "tick"),
        *("touch", "is_current", "is_gone", "records", "holds", "strays", "living", "lying_in"),
        *("spots", "count", "measured", "is_lost", "index", "_index", "listed", "used", "read"),
    )
)
_ENDED: Final = 77
PAGE, ROWS = 4096, 5 * 1024 * 8
_MISSING: Final = "missing"
_SMALL, _LARGE = 300, 30_000


LineHook: TypeAlias = Callable[[int], None]


class Case(NamedTuple):
    """An operation, and what it may do.

    Attributes:
        run: does it.
        changes: by the key, the value that it may have after it; ``_MISSING`` if it may go.
        loses: whether any other key may be missing.
        opens: whether to open the directory is part of it.
    """

    run: Callable[[FilesCacheClient, ManualClock], Any]
    changes: dict[str, Any]
    loses: bool = False
    opens: bool = False

    def ready(self, client: FilesCacheClient) -> None:
        if not self.opens:
            client.get("key 0")


def small(mark: int, size: int = _SMALL) -> bytes:
    return mark.to_bytes(2, "big") * (size // 2)


def large(mark: int) -> bytes:
    return small(mark, _LARGE)


def tree_of(client: FilesCacheClient) -> Any:
    return client._access.tree()


def evict(client: FilesCacheClient, clock: ManualClock) -> None:
    tree = tree_of(client)
    for _ in range(3):
        client._evictor._evict_pack(tree)


def fill(client: FilesCacheClient, clock: ManualClock) -> None:
    """So many that an index grows, and packs are opened and run out."""
    for number in range(20):
        client.put(f"more {number}", small(number, 900), 1000)


def overwrite(client: FilesCacheClient, clock: ManualClock) -> None:
    """Until a pack has no value any more, and goes."""
    for number in range(10):
        client.put("again", small(number, 900), 1000)


def purge(client: FilesCacheClient, clock: ManualClock) -> None:
    clock.advance(50)
    client.purge()


def verify(client: FilesCacheClient, clock: ManualClock) -> None:
    """With something to put right in each lane."""
    tree = tree_of(client)
    for lane in range(LANES):
        tree.lanes.add(lane, Cell.BYTES, 1000)
        (Path(client.path) / "packs" / pack_name(lane, 9999)).write_bytes(b"left")
    tree.counts.correct(5000)
    assert not client.verify().clean


def open_anew(client: FilesCacheClient, clock: ManualClock) -> None:
    """What is known of packs is lost, and made once more."""
    (Path(client.path) / "lanes").unlink()
    assert client.get("key 0", None) is None
    client.put("key 0", small(0), 1000)


def settle(client: FilesCacheClient, clock: ManualClock) -> None:
    """What a survivor does that comes after somebody who was killed."""
    for lane in range(LANES):
        tree_of(client).lanes.set(lane, Cell.BUSY, 1)
    client.put("new", small(50), 1000)


def tidy(client: FilesCacheClient, clock: ManualClock) -> None:
    tree = tree_of(client)
    cleaning.tidy(tree.packs, tree.locks)


CASES: Final = {
    "put new": Case(lambda c, _: c.put("new", small(50), 1000), {"new": small(50)}),
    "put over small": Case(lambda c, _: c.put("key 3", small(51), 1000), {"key 3": small(51)}),
    "large over small": Case(lambda c, _: c.put("key 4", large(52), 1000), {"key 4": large(52)}),
    "small over large": Case(lambda c, _: c.put("large 0", small(53), 9), {"large 0": small(53)}),
    "large over large": Case(lambda c, _: c.put("large 0", large(54), 9), {"large 0": large(54)}),
    "delete": Case(lambda c, _: c.delete("key 5"), {"key 5": _MISSING}),
    "delete large": Case(lambda c, _: c.delete("large 1"), {"large 1": _MISSING}),
    "expire": Case(lambda c, _: c.expire("key 6"), {"key 6": _MISSING}),
    "renew": Case(lambda c, _: c.renew("key 7", 5000), {}),
    "clear": Case(lambda c, _: c.clear(), {}, loses=True),
    "purge": Case(purge, {}, loses=True),
    "tidy": Case(tidy, {}),
    "evict": Case(evict, {}, loses=True),
    "fill": Case(fill, {f"more {n}": small(n, 900) for n in range(20)}, loses=True),
    "overwrite": Case(overwrite, {}, loses=True),
    "verify": Case(verify, {}),
    "settle": Case(settle, {"new": small(50)}),
    "open anew": Case(open_anew, {}, loses=True, opens=True),
}


def make(path: Path, clock: ManualClock) -> FilesCacheClient:
    return FilesCacheClient(SIZE, path, strict=True, clock=clock)


def prepared(path: Path) -> dict[str, Any]:
    """A directory with packs that are full, half dead, or being filled; what it holds."""
    client = make(path, ManualClock())
    held: dict[str, Any] = {}
    for number in range(120):
        client.put(f"passing {number}", small(number, 600), 20 if number % 4 == 1 else 1000)
    for number in range(40):
        held[f"key {number}"] = small(number)
        client.put(f"key {number}", small(number), 1000)
    for number in range(3):
        held[f"large {number}"] = large(number)
        client.put(f"large {number}", large(number), 1000)
    for number in range(120):
        if number % 4 == 0:
            held[f"passing {number}"] = small(number, 600)
        elif number % 4 > 1:
            client.delete(f"passing {number}")
    assert client.verify().clean
    client.close()
    return held


def state(path: Path) -> bytes:
    """A digest of all that a process leaves behind, but for times of access."""
    digest = blake2b()
    for file in sorted(path.rglob("*")):
        digest.update(file.name.encode())
        if file.is_file():
            data = file.read_bytes()
            digest.update(data[PAGE : PAGE + ROWS] if file.name == COUNTS else data)
    return digest.digest()


def run(client: FilesCacheClient, clock: ManualClock, case: Case, at_line: LineHook) -> int:
    """In a child: run the operation, and call *at_line* before each line of it."""
    line = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal line
        code = frame.f_code
        if not code.co_filename.startswith(_FOLDER) or code.co_name in _READING:
            return None
        if not code.co_filename.endswith(_CHANGING):
            return trace if event == "call" else None
        if event == "line":
            line += 1
            at_line(line)
        return trace

    child = os.fork()
    if child == 0:
        try:
            sys.settrace(trace)
            case.run(client, clock)
            sys.settrace(None)
            at_line(0)
            os._exit(0)
        except BaseException as error:
            sys.settrace(None)
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def points(client: FilesCacheClient, clock: ManualClock, case: Case, ledger: Path) -> list[int]:
    """The lines before which the directory is another than before the one before."""
    seen, found = b"", list[int]()

    def at_line(line: int) -> None:
        nonlocal seen
        if not line:
            ledger.write_text(" ".join(map(str, found)))
            return
        now = state(Path(client.path))
        if now != seen:
            seen = now
            found.append(line)

    assert run(client, clock, case, at_line) == 0
    return [int(text) for text in ledger.read_text().split()]


def end_at(point: int) -> LineHook:
    def at_line(line: int) -> None:
        if line == point:
            os._exit(_ENDED)

    return at_line


def look(clients: list[FilesCacheClient], held: dict[str, Any], case: Case) -> dict[str, Any]:
    """What is there: the same for all, and only what may be there."""
    seen: dict[str, Any] = {}
    for key in {**held, **case.changes, "again": None}:
        found = {bytes(client.get(key, b"")) for client in clients}
        assert len(found) == 1, f"{key!r} differs"
        value = seen[key] = found.pop() or _MISSING
        if key == "again":
            assert value in {_MISSING, *(small(n, 900) for n in range(40))}
        elif key in case.changes:
            # One of them, or neither if it went from one place to the other.
            assert value in {_MISSING, held.get(key, _MISSING), case.changes[key]}, key
        else:
            assert value == held[key] or (case.loses and value == _MISSING), key
    assert not any(client.stats.errors for client in clients)
    return seen


def stay_as_they_are(client: FilesCacheClient, seen: dict[str, Any]) -> None:
    for key, value in seen.items():
        assert client.get(key, _MISSING) == value, key


def nothing_comes_back(client: FilesCacheClient, seen: dict[str, Any]) -> None:
    """What is deleted stays so when indexes grow and packs go, and all goes on as ever."""
    for key in seen:
        client.delete(key)
    for number in range(80):
        assert client.put(f"late {number}", small(number), 1000)
    for key in seen:
        assert client.get(key, None) is None, key
    tree = tree_of(client)
    for number in range(80):
        assert client.get(f"late {number}") == small(number)
    while client._evictor._evict_pack(tree):
        pass
    for key in seen:
        assert client.get(key, None) is None, key


def check(path: Path, clock: ManualClock, case: Case, held: dict[str, Any], *, at: int) -> None:
    """End the operation before the line *at*, and look at what it leaves."""
    before, worker = make(path, clock), make(path, clock)
    for key in held:
        assert before.get(key, None) is not None
    case.ready(worker)
    # Not all runs have the same length: how a directory is looked at depends on its age.
    assert run(worker, clock, case, end_at(at)) in (0, _ENDED)
    # The new one first: it is the one to find out what is lost.
    seen = look([make(path, clock), before], held, case)
    if at % 2:
        # Without a look at the whole: who writes next has to put things right.
        assert before.put("key 3", "after it", 1000)
        assert make(path, clock).get("key 3") == "after it"
        seen["key 3"] = "after it"
    before.verify()
    found = make(path, clock).verify()
    assert found.clean, found
    assert before.usage == on_disk(path)
    stay_as_they_are(before, seen)
    stay_as_they_are(make(path, clock), seen)
    nothing_comes_back(before, seen)
    found = before.verify()
    assert found.clean, found
    assert before.usage == on_disk(path)


@pytest.mark.parametrize("name", CASES)
def test_what_somebody_leaves_who_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    small_lanes(monkeypatch, places=4, pack=4096)
    case, template, number = CASES[name], tmp_path / "template", itertools.count()
    held = prepared(template)

    def another() -> Path:
        return Path(shutil.copytree(template, tmp_path / str(next(number))))

    worker = make(another(), clock := ManualClock())
    case.ready(worker)
    lines = points(worker, clock, case, tmp_path / "ledger")
    assert len(lines) > 2
    if len(lines) > POINTS:
        lines = random.Random(name).sample(lines, POINTS)
    for at in lines:
        path = another()
        check(path, ManualClock(), case, held, at=at)
        shutil.rmtree(path)
