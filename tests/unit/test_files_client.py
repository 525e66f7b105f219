"""The client of files, and what may be wrong with them."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.conftest import SECRET
from tests.opened import Opened
from tests.telltale import Telltale
from tiered import FilesCacheClient, InprocCacheClient, StorageError, TieredInclusiveClient, cached
from tiered.clients.files.names import SHARDS
from tiered.clients.files.values import Values
from tiered.errors import UnserializableValue, ValueTooLarge
from tiered.testing import ManualClock


def make(path: Path, clock: ManualClock | None = None, **options: Any) -> FilesCacheClient:
    return FilesCacheClient(10_000_000, path, clock=clock or ManualClock(), **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=0.01)


def values(path: Path) -> list[Path]:
    return [file for file in path.glob("??/*") if len(file.name) == 40]


def only(path: Path) -> Path:
    (file,) = values(path)
    return file


# -- Arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((0, "p"), {}, ValueError),
        ((1.5, "p"), {}, TypeError),
        (("1", "p"), {}, TypeError),
        ((1, ""), {}, ValueError),
        ((1, "a\0b"), {}, ValueError),
        ((1, b"p"), {}, TypeError),
        ((1, 7), {}, TypeError),
        ((1, "p"), {"serializer": "yaml"}, ValueError),
        ((1, "p"), {"checksum_key": ""}, ValueError),
    ],
)
def test_arguments_that_cannot_be_right(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        FilesCacheClient(*arguments, **options)


def test_the_constructor_does_nothing(path: Path) -> None:
    client = make(path)
    assert repr(client) == f"<FilesCacheClient {str(path)!r}>"
    assert client.path == str(path)
    assert not path.exists()
    client.put("k", "v", 10)
    assert path.stat().st_mode & 0o777 == 0o700
    assert only(path).stat().st_mode & 0o077 == 0


def test_what_it_is(path: Path) -> None:
    assert make(path).capabilities.authentic
    assert make(path).capabilities.fenced
    assert make(path, serializer="raw").capabilities.bytes_only
    assert not make(path, serializer="raw").capabilities.authentic
    assert make(path, serializer="raw", checksum_key=SECRET).capabilities.authentic


def test_no_file_stays_open(path: Path) -> None:
    opened = Opened(path)
    client = make(path)
    client.put("k", "v", 10)
    assert opened.descriptors
    client.close()
    assert not opened.descriptors
    assert client.get("k") == "v"
    client.claim("k", 10)
    client.get("l", None)
    client.put("l", lambda: 1, 10)
    del client
    assert not opened.descriptors


# -- Who may write ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_pickles_of_others_are_refused(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    client = make(path)
    assert not client.put("k", "v", 10)
    assert client.get("k", None) is None
    assert client.stats.errors == 2
    assert not list(path.iterdir())
    with pytest.raises(StorageError, match="checksum_key"):
        make(path, strict=True).get("k", None)
    more: list[dict[str, Any]] = [{"checksum_key": SECRET}, {"serializer": "json"}]
    for options in more:
        fits = make(path, strict=True, **options)
        assert fits.put(str(options), "v", 10)
        assert fits.get(str(options)) == "v"


def test_pickles_of_another_user_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(StorageError, match="belongs to user"):
        make(path, strict=True).put("k", "v", 10)


def test_an_unsigned_pickle_is_not_read_by_who_reads_json(path: Path) -> None:
    make(path).put("k", "v", 10)
    client = make(path, serializer="json", checksum_key=SECRET)
    assert client.get("k", None) is None
    assert client.stats.corrupt == 1


@pytest.mark.parametrize("large", [False, True])
def test_what_others_plant_is_not_executed_by_who_reads_json(
    path: Path, tmp_path: Path, large: bool
) -> None:
    more = (numpy.ones(10_000),) if large else ()
    make(path).put("k", Telltale(tmp_path / "executed", *more), 10)
    path.chmod(0o777)
    client = make(path, serializer="json")
    assert client.get("k", None) is None
    assert client.stats.corrupt == 1
    assert client.verify().clean  # it is whole, for those who may read it
    assert not (tmp_path / "executed").exists()
    path.chmod(0o700)
    make(path).get("k")
    assert (tmp_path / "executed").exists()


def test_keys_are_rotated(path: Path) -> None:
    make(path, checksum_key="old").put("k", "v", 10)
    assert make(path, checksum_key=["new", "old"]).get("k") == "v"
    assert make(path, checksum_key="new").get("k", None) is None


# -- Values -------------------------------------------------------------------------------


def test_a_value_that_cannot_be_written_takes_the_old_one_along(path: Path) -> None:
    client = make(path)
    for bad in (lambda: 1, b"x" * 20_000_000):
        client.put("k", "v", 10)
        assert not client.put("k", bad, 10)
        assert client.get("k", None) is None
    assert client.stats.unstorable == 2
    assert client.verify().clean
    strict = make(path, strict=True)
    with pytest.raises(UnserializableValue):
        strict.put("k", lambda: 1, 10)
    with pytest.raises(ValueTooLarge):
        strict.put("k", b"x" * 20_000_000, 10)
    assert FilesCacheClient(1000, path).put("k", 1, 10) is False


def test_a_persistent_value_is_there_for_the_next_client(path: Path) -> None:
    clock = ManualClock()
    first = make(path, clock)
    first.put("k", "v", 100)
    first.close()
    # The machine was started anew: monotonic time begins again, and wall clock time went on.
    later = ManualClock(monotonic=5.0, wall=clock.wall() + 60)
    second = make(path, later)
    assert second.get_ttl("k") == ("v", about(40))
    later.advance(41)
    assert second.get("k", None) is None


@pytest.mark.parametrize("step", [-3600, -50, 50, 3600])
def test_a_clock_that_is_set_changes_no_life(path: Path, step: float) -> None:
    clock = ManualClock()
    client = make(path, clock)
    client.put("k", "v", 100)
    clock.advance(60)
    clock.step_wall(step)
    assert client.get_ttl("k") == ("v", about(40))
    other = make(path, clock)
    assert other.get_ttl("k") == ("v", about(40))
    other.put("l", "w", 100)
    assert client.get_ttl("l") == ("w", about(100))
    clock.advance(41)
    assert client.get("k", None) is None


def test_a_machine_that_starts_with_a_wrong_clock_revives_nothing(path: Path) -> None:
    clock = ManualClock()
    client = make(path, clock)
    client.put("k", "v", 100)
    clock.advance(90)
    client.put("l", "w", 100)
    client.close()
    later = ManualClock(monotonic=5.0, wall=clock.wall() - 10_000)
    second = make(path, later)
    assert second.get_ttl("k")[1] <= 10.01
    later.advance(11)
    assert second.get("k", None) is None
    assert second.get("l") == "w"


def test_a_value_from_the_future_is_not_believed(path: Path) -> None:
    late = make(path, ManualClock(wall=1_800_100_000.0))
    late.put("k", "v", 100)
    client = make(path, ManualClock())
    assert client.get("k", None) is None
    assert client.stats.corrupt == 1
    assert client.add("k", "w", 100)


# -- Faults -------------------------------------------------------------------------------


def damaged_in_each_part(data: bytes) -> list[bytes]:
    flips = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
    cuts = [data[:length] for length in (0, 1, 4, 8, 12, len(data) // 2, len(data) - 1)]
    return [*flips, *cuts, data + b"x", b"something else" * 100]


@pytest.mark.parametrize("options", [{}, {"checksum_key": SECRET}, {"serializer": "json"}])
def test_a_damaged_file_is_a_miss(path: Path, options: dict[str, Any]) -> None:
    client = make(path, **options)
    client.put("k", "value", 100)
    file = only(path)
    for number, data in enumerate(damaged_in_each_part(file.read_bytes()), start=1):
        file.write_bytes(data)
        assert client.get("k", None) is None, data
        assert client.stats.corrupt == number
    assert not client.renew("k", 1000)
    assert client.add("k", "again", 100)
    assert client.get("k") == "again"


def test_swapped_files_are_misses(path: Path) -> None:
    client = make(path)
    client.put("a", 1, 100)
    one = only(path)
    client.put("b", 2, 100)
    (other,) = set(values(path)) - {one}
    other.write_bytes(one.read_bytes())
    assert client.get("b", None) is None
    assert client.get("a") == 1
    found = client.verify()
    assert (found.values, found.unreadable) == (1, 1)
    assert client.verify().clean


def test_what_cannot_be_read_ends_when_it_is_expired(path: Path) -> None:
    make(path, checksum_key="one").put("k", "v", 100)
    assert not make(path, checksum_key="other").expire("k")
    assert make(path, checksum_key="one").get("k", None) is None


@pytest.mark.parametrize("what", ["link", "directory", "fifo"])
def test_something_else_where_a_value_should_be(path: Path, what: str) -> None:
    outside = path.parent / "outside"
    outside.write_text("precious")
    client = make(path)
    client.put("k", "v", 100)
    file = only(path)
    file.unlink()
    if what == "link":
        file.symlink_to(outside)
    elif what == "directory":
        file.mkdir()
    else:
        os.mkfifo(file)
    assert client.get("k", None) is None
    assert client.stats.errors
    written = client.put("k", "w", 100)
    assert written is (what != "directory")
    assert client.get("k", None) == ("w" if written else None)
    client.delete("k")
    client.verify()
    client.clear()
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("name", ["locks", "counts", "counts.new", "shard", "claim"])
def test_planted_links_lead_nowhere(path: Path, name: str) -> None:
    outside = path.parent / "outside"
    outside.mkdir()
    client = make(path)
    client.put("k", "v", 100)
    shard, file = only(path).parent, only(path)
    client.close()
    target = {"shard": shard, "claim": Path(f"{file}.claim")}.get(name, path / name)
    if name == "shard":
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    target.symlink_to(outside if name == "shard" else outside / "made")
    before = outside.stat().st_mtime_ns  # changes with what is made there, also if it goes again
    for strange in (client, make(path)):
        strange.put("k", "w", 100)
        strange.get("k", None)
        strange.claim("k", 1)
        strange.expire("k")
        strange.delete("k")
        strange.purge()
        strange.clear()
    assert not list(outside.iterdir())
    assert outside.stat().st_mtime_ns == before


def fail_with(number: int) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["writev", "rename"])
def test_writes_that_fail(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    client, strict = make(path), make(path, strict=True)
    client.put("k", "old", 100)
    monkeypatch.setattr(os, call, fail_with(number))
    assert not client.put("k", "new", 100)
    assert client.stats.errors == 1
    assert client.get("k", None) is None  # the old one is not what was last put
    with pytest.raises(StorageError, match=os.strerror(number)):
        strict.put("k", "new", 100)
    monkeypatch.undo()
    assert not list(path.glob("??/new-*"))
    assert client.verify().clean
    assert client.usage == 0
    assert client.put("k", "v", 100)


def test_reads_that_fail(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, strict = make(path), make(path, strict=True)
    client.put("k", "v", 100)
    strict.get("k")
    monkeypatch.setattr(os, "pread", fail_with(errno.EIO))
    assert client.get("k", None) is None
    with pytest.raises(StorageError):
        strict.get("k", None)
    monkeypatch.undo()
    assert client.get("k") == "v"


def test_a_value_that_cannot_be_expired_in_place_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(path)
    client.put("k", "v", 100)
    monkeypatch.setattr(os, "pwrite", fail_with(errno.ENOSPC))
    assert not client.renew("k", 1000)
    assert client.expire("k")
    monkeypatch.undo()
    assert client.get_ttl("k", "gone") == ("gone", -1)
    assert client.verify().clean


@pytest.mark.parametrize("kind", ["file", "below a file", "no right"])
def test_a_path_that_cannot_be_used(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind == "no right":
        monkeypatch.setattr(os, "makedirs", fail_with(errno.EACCES))
    else:
        path.write_text("precious")
    where = path / "below" if kind == "below a file" else path
    client = make(where)

    @cached(client, 60)
    def double(x: int) -> int:
        return 2 * x

    assert double(2) == 4
    assert not client.put("k", "v", 10)
    assert client.get("k", None) is None
    assert not client.delete("k")
    assert not client.expire("k")
    assert client.purge() == 0
    assert client.usage == 0
    assert client.explain("k").state == "absent"
    client.clear()
    claim = client.claim("k", 10)
    assert claim is not None
    assert not claim.fill("v", 10)
    assert not claim.lost
    assert client.stats.errors
    strict = make(where, strict=True)
    for call in (strict.delete, strict.get, strict.claim, strict.expire):
        with pytest.raises(StorageError):
            call("k")
    if kind != "no right":
        assert path.read_text() == "precious"


def test_a_directory_that_is_removed(path: Path) -> None:
    client, other = make(path), make(path)
    client.put("k", "v", 100)
    other.get("k")
    shutil.rmtree(path)
    assert client.get("k", None) is None
    assert not client.delete("k")
    assert other.put("k", "w", 100)
    assert client.get("k") == "w"
    assert client.usage == other.usage > 0
    assert client.stats.errors == other.stats.errors == 0
    # And one that is made anew, in which the old one must not be believed.
    shutil.rmtree(path)
    fresh = make(path)
    fresh.put("k", "x", 100)
    assert client.delete("k")
    assert fresh.get("k", None) is None


def test_shards_that_are_removed_again_and_again_do_not_stay_open(path: Path) -> None:
    client = make(path)
    client.put("k", "v", 10)
    opened = Opened(path)
    most = 0
    for _ in range(3 * SHARDS):
        shutil.rmtree(only(path).parent)
        assert client.put("k", "v", 10)
        most = max(most, len(opened.descriptors))
    assert most <= SHARDS + 1
    assert client.get("k") == "v"
    assert client.stats.errors == 0


def test_a_shard_that_is_removed(path: Path) -> None:
    client, other = make(path), make(path)
    client.put("k", "v", 100)
    other.get("k")
    shutil.rmtree(only(path).parent)
    assert client.get("k", None) is None
    assert other.get("k", None) is None
    assert client.put("k", "w", 100)
    assert other.get("k") == "w"
    client.verify()
    assert client.usage == 4096


def test_counts_of_another_format_are_made_anew(path: Path) -> None:
    client = make(path)
    client.put("k", "v", 100)
    client.close()
    for data in (b"", b"x" * 100, b"x" * (path / "counts").stat().st_size):
        (path / "counts").unlink()
        (path / "counts").write_bytes(data)
        again = make(path)
        assert again.get("k") == "v"
        assert again.put("l", "w", 100)
        assert again.verify().drift == 4096
        assert again.usage == 2 * 4096
        again.delete("l")
        again.close()


def test_what_is_not_ours_stays(path: Path) -> None:
    path.mkdir(mode=0o700)
    (path / "00").mkdir()
    strange = [path / "notes.txt", path / "00" / "notes.txt", path / "00" / "new-1-2.txt"]
    for file in strange:
        file.write_text("precious")
    client = make(path)
    client.put_multi({n: n for n in range(200)}, 10)
    client.purge()
    client.verify()
    client.clear()
    assert [file.read_text() for file in strange] == ["precious"] * 3
    assert not values(path)


def test_a_value_is_written_before_it_is_seen(path: Path) -> None:
    """Nobody finds a part of a value: each write is seen through the eyes of a reader."""
    client, reader = make(path), make(path)
    client.put("k", 0, 100)
    seen: list[Any] = []
    real = os.writev

    def watched(descriptor: int, parts: Any) -> int:
        seen.append(reader.get("k"))
        written = real(descriptor, [memoryview(parts[0])[:10]])
        seen.append(reader.get("k"))
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", watched)
        client.put("k", 1, 100)
    assert set(seen) == {0}
    assert reader.get("k") == 1


def test_threads_renew_what_others_read(path: Path) -> None:
    client = make(path)
    client.put("k", "v" * 3000, 100)
    over = threading.Event()
    torn: list[Any] = []

    def read() -> None:
        while not over.is_set():
            if client.get("k", None) != "v" * 3000:
                torn.append(1)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for number in range(500):
        assert client.renew("k", 200 + number)
    over.set()
    for thread in readers:
        thread.join()
    assert not torn
    assert client.stats.errors == 0


def test_it_explains_a_key(path: Path) -> None:
    clock = ManualClock()
    client = make(path, clock)
    client.put("k", "v", 100)
    clock.advance(10)
    claim = client.claim("k", 10)
    assert claim is not None
    facts = dict(client.explain("k").detail)
    assert facts["age"] == pytest.approx(10, abs=0.01)
    assert facts["claimed"] is True
    assert (path / str(facts["file"])).stat().st_size == facts["size"]


def test_a_far_tier_of_files_that_fails_is_passed_over(path: Path) -> None:
    path.write_text("in the way")
    clock = ManualClock()
    client = TieredInclusiveClient(
        InprocCacheClient(10, clock=clock), make(path, clock, strict=True)
    )
    assert client.put("k", "v", 10)
    assert client.get("k") == "v"


# -- Versions -----------------------------------------------------------------------------


def test_a_version_is_the_same_for_all_processes(path: Path) -> None:
    one, other = make(path, checksum_key=SECRET), make(path, checksum_key=SECRET)
    one.put("k", "v", 100)
    version = one.versioned("k").version
    assert version == other.version("k") is not None
    other.put("k", "v", 100)
    assert one.version("k") not in (None, version)


def test_a_file_of_another_key_has_no_version_of_ours(path: Path) -> None:
    client = make(path)
    client.put("k", "v", 100)
    ours = only(path)
    client.put("another", "v", 100)
    (theirs,) = set(values(path)) - {ours}
    shutil.copy(theirs, ours)
    assert client.version("k") is None
    ours.write_bytes(b"")
    assert client.version("k") is None


def test_what_changes_while_it_is_read_has_no_version(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, writer = make(path), make(path)
    client.put("k", "v", 100)
    find = Values.find

    def find_late(self: Values, tree: Any, name: bytes) -> Any:
        entry = find(self, tree, name)
        writer.renew("k", 500)
        return entry

    monkeypatch.setattr(Values, "find", find_late)
    found = client.versioned("k")
    assert found.entry is not None
    assert (found.entry.value, found.version) == ("v", None)


def test_a_directory_that_was_replaced_is_found_again(path: Path) -> None:
    client = make(path)
    client.put("k", "v", 100)
    assert client.version("k") is not None
    shutil.rmtree(path)
    make(path).put("k", "w", 100)
    assert client.version("k") is not None
    assert client.get("k") == "w"
