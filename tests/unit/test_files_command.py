"""``python -m tiered files``: what the commands say of a directory, and how they end."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.conftest import SECRET
from tests.telltale import Telltale
from tiered import FilesCacheClient
from tiered.cli.arguments import period
from tiered.cli.files.phrasing import duration, size_text
from tiered.cli.main import main
from tiered.clients.files.inspection import Inspection
from tiered.clients.files.names import new_name

SIZE = 100_000_000
COMMANDS = ("usage", "verify", "purge", "get", "ls")

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIERED_CHECKSUM_KEY", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def filled(path: Path) -> Iterator[FilesCacheClient]:
    """Three small values, a stale one, and a large one.

    Lives are hours, of which a tenth is shown: what a test takes, and a machine that stalls, does
    not show.
    """
    with FilesCacheClient(SIZE, path) as client:
        for number in range(3):
            client.put(f"user:{number}", b"x" * 100 * (number + 1), 3600)
        client.put(("page", 1), "stale", -36_000)
        client.put("matrix", numpy.ones(10_000), 7200)
        yield client


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command: status, output, and errors."""

    def run(command: str, path: object, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["files", command, str(path), *arguments])
        return status, *capsys.readouterr()

    return run


def everything(path: Path) -> dict[str, bytes | None]:
    """All files of a directory, with what is in them."""
    return {
        str(file.relative_to(path)): None if file.is_dir() else file.read_bytes()
        for file in sorted(path.rglob("*"))
    }


# -- Arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["files", command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"python -m tiered files {command} /var/cache/app" in said.partition("examples")[2]
    assert "exit codes: 0" in said
    if command == "verify":
        assert "Nobody can write to the directory until it is done" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        *([command] for command in COMMANDS),
        ["get", "/x"],
        ["ls", "/x", "--limit", "-1"],
        ["ls", "/x", "--sort", "colour"],
        ["usage", "/x", "--largest", "some"],
        ["purge", "/x", "--older-than", "-1"],
        ["purge", "/x", "--older-than", "1", "--all"],
        ["verify", "/x", "--checksum-key", "env:A", "--checksum-key-file", "b"],
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["files", *arguments])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("1e6", 1e6), ("0.5", 0.5)])
def test_periods(text: str, seconds: float) -> None:
    assert period(text) == seconds


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a number of seconds, 0 or more"):
        period(text)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["missing", "a file", "empty", "of something else"])
def test_what_is_no_directory_of_values_is_an_error_and_left_alone(
    said: Said, tmp_path: Path, command: str, kind: str
) -> None:
    path = tmp_path / "there"
    if kind == "a file":
        path.write_text("text")
    elif kind != "missing":
        path.mkdir()
    if kind == "of something else":
        (path / "locks").touch()
    key = ["k"] if command == "get" else []
    status, out, err = said(command, path, *key)
    assert (status, out) == (2, "")
    assert err.startswith(f"tiered files {command}: {str(path)!r}")
    assert err.count("\n") == 1
    words = {
        "missing": "No such file or directory",
        "a file": "Not a directory",
        "empty": "is no directory of a FilesCacheClient: it has no 'locks'",
        "of something else": "it has no 'counts' nor 'lanes'",
    }
    assert words[kind] in err
    found = {"of something else": ["there", "locks"], "missing": []}.get(kind, ["there"])
    assert [file.name for file in sorted(tmp_path.rglob("*"))] == found


@pytest.mark.parametrize("command", ["get", "verify"])
def test_a_secret_that_is_not_there_is_told(said: Said, path: Path, command: str) -> None:
    key = ["k"] if command == "get" else []
    for options, words in (
        (["--checksum-key", "my secret"], "must be env:NAME"),
        (["--checksum-key", "env:"], "must be env:NAME"),
        (["--checksum-key", "env:NOBODY_HAS_THIS"], "the variable NOBODY_HAS_THIS is not set"),
        (["--checksum-key-file", "/there/is/none"], "No such file"),
        (["--checksum-key-file", os.devnull], "holds no key"),
    ):
        status, out, err = said(command, path, *key, *options)
        assert (status, out) == (2, "")
        assert words in err
        assert "my secret" not in err


# -- Looking changes nothing -----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["usage"], ["ls"], ["get", "user:1"], ["get", "matrix"], ["get", "nothing"]]
)
def test_looking_changes_nothing_and_needs_no_right_to(
    said: Said, path: Path, filled: FilesCacheClient, arguments: list[str]
) -> None:
    filled.close()
    command, *more = arguments
    before, times = everything(path), path.stat().st_mtime_ns
    for file in (*path.rglob("*"), path):
        file.chmod(stat.S_IMODE(file.stat().st_mode) & ~0o222)
    try:
        status, out, _ = said(command, path, *more)
    finally:
        for file in (path, *path.rglob("*")):
            file.chmod(stat.S_IMODE(file.stat().st_mode) | 0o200)
    assert status == (1 if "nothing" in arguments else 0)
    assert bool(out) == (status == 0)
    assert everything(path) == before
    assert path.stat().st_mtime_ns == times


# -- usage -----------------------------------------------------------------------------


def test_usage_tells_what_takes_how_much(said: Said, path: Path, filled: FilesCacheClient) -> None:
    filled.put("user:2", b"y" * 300, 3600)  # what was there is dead now
    status, out, err = said("usage", path, "--largest", "2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    share = filled.usage / SIZE
    assert lines[0] == str(path)
    assert lines[1] == f"  in use    {size_text(filled.usage)} of 100.0 MB, {share:.1%}"
    assert lines[2] == "  values    5, 1 of them stale"
    assert lines[3].startswith("  in packs  4 values, ")
    assert " 400 B dead; indexes " in lines[3]
    assert lines[4] == "  in files  1 value, 81.9 KB"
    assert [line.split() for line in lines[5:]] == [
        ["largest", "81.9", "KB", "'matrix'"],
        ["400", "B", "'user:2'"],
    ]


def test_usage_as_json(said: Said, path: Path, filled: FilesCacheClient) -> None:
    status, out, _ = said("usage", path, "--json", "--largest", "0")
    assert status == 0
    data = json.loads(out)
    packs = data["packs"]
    assert data["used"] == filled.usage
    assert (
        data["used"] == packs["bytes"] + packs["dead"] + packs["indexes"] + data["files"]["bytes"]
    )
    assert (data["size"], data["values"], data["stale"], data["damaged"]) == (SIZE, 5, 1, 0)
    assert (packs["values"], data["files"]["values"], data["largest"]) == (4, 1, [])


def test_the_size_is_that_of_who_writes(said: Said, path: Path, filled: FilesCacheClient) -> None:
    FilesCacheClient(7, path).get("user:1", None)
    said("purge", path)
    assert json.loads(said("usage", path, "--json")[1])["size"] == SIZE


def test_damaged_values_are_told(said: Said, path: Path, filled: FilesCacheClient) -> None:
    [file] = path.glob("[0-9a-f][0-9a-f]/*")
    file.write_bytes(b"nonsense")
    assert "  damaged   1 value; see 'files verify'" in said("usage", path)[1].splitlines()
    row = next(row for row in rows(said, path) if row["file"].endswith(file.name))
    assert (row["key"], row["age"], row["ttl"], row["stale"]) == ("<damaged>", None, None, False)
    assert said("get", path, f"#{file.name}")[0] == 3


# -- ls --------------------------------------------------------------------------------


def rows(said: Said, path: Path, *arguments: str) -> list[dict[str, Any]]:
    status, out, err = said("ls", path, "--json", *arguments)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def keys(said: Said, path: Path, *arguments: str) -> list[str]:
    return [row["key"] for row in rows(said, path, *arguments)]


USERS = ["'user:0'", "'user:1'", "'user:2'"]


def test_values_are_listed(said: Said, path: Path, filled: FilesCacheClient) -> None:
    status, out, err = said("ls", path)
    assert (status, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["size", "age", "ttl", "key,", "not", "verified"]
    assert [line.split("  ")[-1] for line in lines] == ["'matrix'", *USERS, "('page', 1)"]
    assert lines[0].split()[:5] == ["81,920", "0.0", "s", "2.0", "h"] or "2.0 h" in lines[0]
    assert "-10.0 h" in lines[-1]


def test_they_are_sorted_and_chosen(said: Said, path: Path, filled: FilesCacheClient) -> None:
    page = "('page', 1)"
    assert keys(said, path, "--sort", "size") == ["'matrix'", *USERS[::-1], page]
    assert keys(said, path, "--sort", "age") == [*USERS, page, "'matrix'"]
    assert keys(said, path, "--sort", "ttl") == [page, *USERS, "'matrix'"]
    filled.get("user:1")
    assert keys(said, path, "--sort", "used", "--limit", "2") == ["'user:1'", "'matrix'"]
    assert keys(said, path, "--prefix", "user:") == keys(said, path, "--prefix", "'user:") == USERS
    assert keys(said, path, "--prefix", "('page") == [page]
    assert keys(said, path, "--limit", "0") == []


def test_what_has_no_end_has_no_ttl(said: Said, path: Path, filled: FilesCacheClient) -> None:
    filled.store("always", 1, float("inf"))
    assert rows(said, path, "--prefix", "always")[0]["ttl"] is None
    assert "never  'always'" in said("ls", path)[1]


@pytest.mark.parametrize("command", ["ls", "usage"])
def test_no_secret_is_needed_to_look(said: Said, path: Path, command: str) -> None:
    with FilesCacheClient(SIZE, path, checksum_key=SECRET) as client:
        client.put("k", "a private value", 100)
    status, out, err = said(command, path)
    assert (status, err) == (0, "")
    assert "'k'" in out
    assert "a private value" not in out


def test_progress_is_shown_where_it_is_wanted(
    said: Said, path: Path, filled: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("ls", "usage", "verify"):
        lines = said(command, path, "--progress")[2].splitlines()[command == "verify" :]
        assert len(lines) == 11
        assert lines[-1] in {"reading: 100 %", "verifying: 100 %"}
    for which in ((), ("--all", "--yes")):
        lines = said("purge", path, "--progress", *which)[2].splitlines()
        assert len(lines) > 3
        assert lines[-1] == "purging: 100 %"
    assert "purging" not in said("purge", path)[2]
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", screen)
    main(["files", "ls", str(path)])
    assert f"\rreading [{'#' * 20}{'.' * 20}]  50 %" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


# -- get -------------------------------------------------------------------------------


def test_a_key_is_a_literal_or_a_text(said: Said, path: Path, filled: FilesCacheClient) -> None:
    filled.put(17, "the number", 1000)
    filled.put("17", "the text", 1000)
    assert said("get", path, "17") == (0, "'the number'\n", "")
    assert said("get", path, "'17'") == (0, "'the text'\n", "")
    assert said("get", path, "user:0") == (0, f"{b'x' * 100!r}\n", "")
    [row] = rows(said, path, "--prefix", "user:0")
    assert said("get", path, f"#{row['digest']}")[1] == f"{b'x' * 100!r}\n"
    assert said("get", path, "matrix")[1] == f"{numpy.ones(10_000)!r}\n"


def test_misses(said: Said, path: Path, filled: FilesCacheClient) -> None:
    status, out, err = said("get", path, "nobody")
    assert (status, out) == (1, "")
    assert err == "tiered files get: nothing is held for 'nobody'\n"
    assert "type int; the text is \"'12'\"" in said("get", path, "12")[2]
    status, out, err = said("get", path, "('page', 1)")
    assert (status, out) == (1, "")
    assert "('page', 1) is stale since 10.0 h" in err
    assert said("get", path, "('page', 1)", "--stale") == (0, "'stale'\n", "")
    assert said("get", path, "#" + "0" * 40)[0] == 1


def test_what_cannot_be_a_key_is_told(said: Said, path: Path, filled: FilesCacheClient) -> None:
    status, out, err = said("get", path, "[1]")
    assert (status, out) == (2, "")
    assert err.startswith("tiered files get: KEY '[1]': ")


def test_bytes_are_written_as_they_are(
    path: Path, filled: FilesCacheClient, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    filled.put("text", "\N{SNOWMAN}", 1000)
    filled.put("number", 1, 1000)
    written = {"user:0": b"x" * 100, "text": "\N{SNOWMAN}".encode(), "matrix": b""}
    written["matrix"] = numpy.ones(10_000).tobytes()
    for key, data in written.items():
        assert main(["files", "get", str(path), key, "--raw"]) == 0
        assert capfdbinary.readouterr() == (data, b"")
    assert main(["files", "get", str(path), "number", "--raw"]) == 3
    assert capfdbinary.readouterr() == (b"", b"tiered files get: --raw: a int has no bytes\n")


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("why", ["others write", "of another user"])
def test_what_others_may_have_written_is_not_unpickled(
    said: Said, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool, why: str
) -> None:
    mark = tmp_path / "executed"
    with FilesCacheClient(SIZE, path) as client:
        client.put("k", Telltale(mark, *([numpy.ones(10_000)] if large else [])), 100)
    if why == "others write":
        path.chmod(0o770)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    status, out, err = said("get", path, "k")
    assert status == 3
    assert "nothing there is unpickled without --checksum-key" in err
    assert out.splitlines()[0] == "key   'k'"
    assert [line.split()[0] for line in out.splitlines()] == ["key", "file", "size", "age", "ttl"]
    monkeypatch.setenv("TIERED_CHECKSUM_KEY", SECRET)
    assert said("get", path, "k")[0] == 3  # it is not signed
    assert said("get", path, "k", "--raw")[1] == ""
    assert not mark.exists()
    monkeypatch.undo()
    path.chmod(0o700)
    assert said("get", path, "k")[0] == 0
    assert mark.exists()


@pytest.mark.parametrize("command", ["verify", "purge"])
def test_root_does_not_write_where_another_user_does(
    said: Said,
    path: Path,
    filled: FilesCacheClient,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """What root makes there could not be opened by whose cache it is."""
    filled.close()
    if os.geteuid() == 0:
        os.chown(path, 4711, -1)
    owner, before = path.stat().st_uid, everything(path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    status, out, err = said(command, path)
    assert (status, out) == (2, "")
    assert f"belongs to user {owner}, and this is run by root" in err
    assert f"sudo -u '#{owner}'" in err
    assert everything(path) == before
    assert said("usage", path)[0] == 0  # that only looks
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert said(command, path)[0] == 0


@pytest.mark.parametrize("command", ["usage", "ls", "verify", "purge"])
def test_where_others_can_write_nothing_is_unpickled(
    said: Said, path: Path, tmp_path: Path, command: str
) -> None:
    mark = tmp_path / "executed"
    with FilesCacheClient(SIZE, path) as client:
        client.put("small", Telltale(mark), 100)
        client.put("large", Telltale(mark, numpy.ones(10_000)), 100)
    path.chmod(0o777)
    assert said(command, path)[0] == 0
    assert not mark.exists()


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_signed_values_need_their_secret(
    said: Said, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    with FilesCacheClient(SIZE, path, checksum_key=SECRET) as client:
        client.put("k", {"a": 1}, 7200)
        client.put("m", numpy.ones(10_000), 7200)
    path.chmod(mode)
    file = tmp_path / "key"
    file.write_text(f"another\n{SECRET}\n")
    monkeypatch.setenv("OF_THE_APP", SECRET)
    monkeypatch.setenv("OF_ANOTHER", "wrong")
    for options, status in (
        ([], 3),
        (["--checksum-key", "env:OF_ANOTHER"], 3),
        (["--checksum-key", "env:OF_THE_APP"], 0),
        (["--checksum-key-file", str(file)], 0),
    ):
        found = said("get", path, "k", *options)
        assert found[0] == status
        assert found[1] == "{'a': 1}\n" if not status else "ttl   2.0 h" in found[1]
        assert said("get", path, "m", *options)[0] == status
    monkeypatch.setenv("TIERED_CHECKSUM_KEY", SECRET)
    assert said("get", path, "k")[0] == 0


# -- purge -----------------------------------------------------------------------------


def test_what_is_stale_is_removed(said: Said, path: Path, filled: FilesCacheClient) -> None:
    assert said("purge", path, "--older-than", "40000") == (0, "removed 0 values\n", "")
    assert said("purge", path) == (0, "removed 1 value\n", "")
    assert keys(said, path) == ["'matrix'", *USERS]
    assert said("purge", path, "--all", "--json", "--yes") == (0, '{"removed": 4}\n', "")
    assert keys(said, path) == []
    assert filled.verify().clean


@pytest.mark.parametrize(("answer", "done"), [("y\n", True), ("n\n", False), ("", False)])
def test_who_is_there_is_asked_before_everything_goes(
    said: Said,
    path: Path,
    filled: FilesCacheClient,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    done: bool,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    status, _, err = said("purge", path, "--all")
    assert status == (0 if done else 1)
    assert f"remove all values in {str(path)!r}? [y/N] " in err
    assert bool(keys(said, path)) is not done


def test_signed_values_are_purged_without_their_secret(said: Said, path: Path) -> None:
    with FilesCacheClient(SIZE, path, checksum_key=SECRET) as client:
        client.put("k", 1, -1)
        client.put("m", numpy.ones(10_000), -1)
        client.put("l", 1, 100)
    assert said("purge", path)[1] == "removed 2 values\n"
    assert keys(said, path) == ["'l'"]


# -- verify ----------------------------------------------------------------------------


HOLDS_UP = "tiered files verify: nobody can write until this is done\n"


def test_what_is_sound(said: Said, path: Path, filled: FilesCacheClient) -> None:
    status, out, err = said("verify", path)
    assert (status, err) == (0, HOLDS_UP)
    assert out.splitlines() == [
        f"values                 5  {size_text(filled.usage)}",
        "unreadable             0  not what was written",
        "unfinished             0  left by processes that ended",
        "claims                 0  that nobody holds any more",
        "drift                 +0  bytes that were not counted",
        "all is sound",
    ]


def test_what_is_wrong_is_found_and_repaired(
    said: Said, path: Path, filled: FilesCacheClient
) -> None:
    [file] = path.glob("[0-9a-f][0-9a-f]/*")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    (file.parent / new_name(12345, 1)).write_bytes(b"begun")
    status, out, _ = said("verify", path, "--json")
    found = json.loads(out)
    assert (status, found["unreadable"], found["unfinished"]) == (1, 1, 1)
    assert (found["clean"], found["repaired"]) == (False, False)
    assert said("verify", path)[1].endswith("to be repaired with --repair\n")
    assert said("verify", path, "--quick")[0] == 1  # the file that was begun
    assert file.exists()
    status, out, _ = said("verify", path, "--repair", "--json")
    found = json.loads(out)
    assert (status, found["unreadable"], found["unfinished"]) == (0, 1, 1)
    assert (found["clean"], found["repaired"]) == (False, True)
    assert not file.exists()
    assert said("verify", path)[0] == 0


def test_what_cannot_be_repaired_is_told(
    said: Said, path: Path, filled: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = path.glob("[0-9a-f][0-9a-f]/*")
    file.write_bytes(b"damaged")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "unlink", refuse)
    status, out, _ = said("verify", path, "--repair")
    assert status == 1
    assert out.endswith("not repaired\n")


def test_damaged_counts_are_repaired(said: Said, path: Path, filled: FilesCacheClient) -> None:
    filled.close()
    (path / "counts").unlink()
    (path / "counts").write_bytes(b"nonsense")
    status, _, err = said("usage", path)
    assert status == 2
    assert "the file 'counts' is of another format" in err
    assert said("verify", path, "--repair")[0] == 0
    assert said("usage", path)[0] == 0


@pytest.mark.parametrize("options", [[], ["--repair"]])
def test_signed_values_are_not_taken_for_damaged_ones(
    said: Said, path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    with FilesCacheClient(SIZE, path, checksum_key=SECRET) as client:
        client.put("k", 1, 100)
        client.put("m", numpy.ones(10_000), 100)
    status, out, err = said("verify", path, *options)
    assert (status, out) == (2, "")
    assert "are signed with a secret; give --checksum-key" in err
    monkeypatch.setenv("TIERED_CHECKSUM_KEY", "wrong")
    status, out, err = said("verify", path, *options)
    assert (status, out) == (2, "")
    assert "are not signed with this secret" in err
    assert said("verify", path, "--quick", *options)[0] == 0
    monkeypatch.setenv("TIERED_CHECKSUM_KEY", SECRET)
    assert said("verify", path, *options)[0] == 0
    assert keys(said, path) == ["'k'", "'m'"]


# -- How they end ----------------------------------------------------------------------


def test_an_interrupt_has_the_status_that_shells_expect(
    said: Said, path: Path, filled: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(FilesCacheClient, "verify", interrupted)
    assert said("verify", path) == (130, "", HOLDS_UP)
    monkeypatch.setattr(Inspection, "values", interrupted)
    for command in ("ls", "usage"):
        assert said(command, path) == (130, "", "")


@pytest.mark.parametrize("command", ["verify", "purge"])
def test_a_directory_that_cannot_be_used_is_told(
    said: Said, path: Path, filled: FilesCacheClient, command: str
) -> None:
    filled.close()
    (path / "packs").rename(path / "elsewhere")
    (path / "packs").symlink_to("elsewhere")
    status, out, err = said(command, path)
    assert (status, out) == (2, "")
    assert f"tiered files {command}: " in err
    assert f"files in {str(path)!r} cannot be used" in err or "packs" in err


# -- Words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (12_345_678, "12.3 MB"), (2e12, "2.0 TB")],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (float("inf"), "never"),
        (-float("inf"), "-"),
        (0.04, "0.0 s"),
        (-59.0, "-59.0 s"),
        (90.0, "1.5 min"),
        (5400.0, "1.5 h"),
        (-129_600.0, "-1.5 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
