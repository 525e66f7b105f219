"""The sockets by which nodes of one host tell each other."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.messages import Kind, Ping, Publish, packed_names
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq import neighbours as module
from tiered.coherence.zeromq.addresses import parse_bus_addresses
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.neighbours import Neighbours, folder_of

TOPIC = b"a-topic."

Join = Callable[..., Neighbours]


def event(number: int = 1) -> Publish:
    return Publish(b"a node  ", 7, number, 1, packed_names(Kind.DELETE, TOPIC, [b"k"]), False)


@pytest.fixture
def folder() -> Iterator[Path]:
    # The paths of sockets are short: not where pytest keeps what a test needs.
    with tempfile.TemporaryDirectory(prefix="tiered-") as place:
        yield Path(place) / "bus"


@pytest.fixture
def foreign() -> ForeignCount:
    return ForeignCount(SYSTEM_CLOCK)


@pytest.fixture(params=["used", "python"])
def join(
    request: pytest.FixtureRequest,
    folder: Path,
    foreign: ForeignCount,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Join]:
    """Makes a neighbour, the socket of which is compiled where that is in use, or Python's."""
    if request.param == "python":
        monkeypatch.setattr(module, "_send", module._python_send)
        monkeypatch.setattr(module, "_receive", module._python_receive)
    joined: list[Neighbours] = []

    def join(key: str = "secret") -> Neighbours:
        node = b"node  %2d" % len(joined)
        joined.append(Neighbours(folder, node, wire=Wire([key]), foreign=foreign))
        return joined[-1]

    yield join
    for one in joined:
        if one.descriptor >= 0:
            one.close()


def test_who_is_there_is_told(join: Join) -> None:
    a, b, c = join(), join(), join()
    assert a.look()
    assert b.look()
    assert [len(one.others) for one in (a, b, c)] == [2, 2, 2]
    a.tell(event(1))
    a.tell(event(2))
    b.tell(event(3))
    assert [list(one.receive()) for one in (a, b, c)] == [
        [event(3)],
        [event(1), event(2)],
        [event(1), event(2), event(3)],
    ]
    assert list(a.receive()) == []


def test_who_comes_and_goes_is_noticed(join: Join) -> None:
    a, b = join(), join()
    a.look()
    for _ in range(3):
        c = join()
        a.look()
        assert len(a.others) == 2
        c.close()
        a.look()
        assert len(a.others) == 1
    assert b.look()


def test_what_did_not_change_is_not_read_again(
    join: Join, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _b = join(), join()
    long_ago = os.stat(folder).st_mtime - 10
    os.utime(folder, (long_ago, long_ago))
    assert a.look()
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail("it was read"))
    assert a.look()
    assert len(a.others) == 1


def test_who_was_killed_is_forgotten(join: Join, folder: Path) -> None:
    a, b = join(), join()
    b.forget()  # its socket is closed, and its file is there
    a.look()
    a.tell(event())
    assert a.others == ()
    a.look()
    assert len(list(folder.iterdir())) == 1


def test_who_does_not_read_holds_nobody_up(join: Join) -> None:
    a, b = join(), join()
    a.look()
    for number in range(1, 5000):
        a.tell(event(number))
    assert len(a.others) == 1
    heard = [one.first for one in b.receive()]
    assert heard == list(range(1, len(heard) + 1))
    assert 0 < len(heard) < 4999


def test_many_are_not_told(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    a, b, c, d = join(), join(), join(), join()
    a.look()
    a.tell(event())
    assert [list(one.receive()) for one in (b, c, d)] == [[], [], []]
    d.close()
    a.look()
    a.tell(event())
    assert [len(list(one.receive())) for one in (b, c)] == [1, 1]


def test_what_is_no_notice_is_counted_and_dropped(
    join: Join, folder: Path, foreign: ForeignCount
) -> None:
    a, b = join(), join()
    a.look()
    wire = Wire(["secret"])
    frames = [
        b"",
        b"nonsense",
        wire.pack(event())[:-1],
        wire.pack(event()) * 40,  # longer than any notice
        Wire(["another secret"]).pack(event()),
        Wire().pack(event()),
        wire.pack(Ping(b"a node  ", 7, 1, 1)),
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for frame in frames:
            stranger.sendto(frame, str(folder / a._own))
    b.look()
    b.tell(event())
    assert list(a.receive()) == [event()]
    assert foreign.count == len(frames)


def test_a_crowd_of_notices_is_taken_in_parts(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    a, b = join(), join()
    a.look()
    for number in (1, 2, 3):
        a.tell(event(number))
    assert [[one.first for one in b.receive()] for _ in range(3)] == [[1, 2], [3], []]


def test_nothing_is_left_behind(join: Join, folder: Path) -> None:
    a, b = join(), join()
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    a.close()
    assert [path.name for path in folder.iterdir()] == [b._own]
    b.close()
    assert not folder.exists()
    b.tell(event())


def test_what_others_left_behind_is_removed(folder: Path, join: Join) -> None:
    for name, listens in (("dead", False), ("alive", True)):
        other = folder.parent / name
        other.mkdir()
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bound.bind(str(other / "one"))
        if not listens:
            bound.close()
    (folder.parent / "a file").write_text("of somebody")
    (folder.parent / "alive" / "note").write_text("of somebody")
    join()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["a file", "alive", "bus"]
    assert sorted(path.name for path in (folder.parent / "alive").iterdir()) == ["note", "one"]
    bound.close()


def test_who_was_tidied_away_hears_of_it(join: Join, folder: Path) -> None:
    a = join()
    (folder / a._own).unlink()
    assert not a.look()
    a.close()
    b = join()
    (folder / b._own).unlink()
    folder.rmdir()
    assert not b.look()


@pytest.mark.parametrize("wrong", ["open", "link", "file"])
def test_a_folder_that_is_not_ours_alone_is_not_used(folder: Path, join: Join, wrong: str) -> None:
    if wrong == "open":
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    elif wrong == "link":
        elsewhere = folder.parent / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        folder.symlink_to(elsewhere)
    else:
        folder.write_text("")
    with pytest.raises(OSError, match="of this user alone"):
        join()


def test_a_folder_of_another_user_is_not_used(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(PermissionError):
        join()


def test_a_path_may_be_too_long(folder: Path, foreign: ForeignCount) -> None:
    deep = folder.parent / ("x" * 120)
    with pytest.raises(OSError, match="too long"):
        Neighbours(deep, b"a node  ", wire=Wire(), foreign=foreign)


def test_the_folder_may_vanish_as_it_is_entered(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one to leave takes it away."""
    make, made = module._make, []

    def make_and_lose(one: Path) -> None:
        make(one)
        made.append(one)
        if made.count(folder) < 3 and one == folder:
            folder.rmdir()

    monkeypatch.setattr(module, "_make", make_and_lose)
    assert join().look()


def test_the_folder_may_be_kept_from_being() -> None:
    with pytest.raises(OSError, match="No such file"):
        Neighbours(
            Path("/nowhere/at/all"), b"a node  ", wire=Wire(), foreign=ForeignCount(SYSTEM_CLOCK)
        )


def test_buses_have_folders_of_their_own() -> None:
    names = ["tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556"]
    forth, back = (folder_of(parse_bus_addresses(each)) for each in (names, names[::-1]))
    assert forth == back
    assert folder_of(parse_bus_addresses(names[:1])) != forth
    assert forth.parent.name == f"tiered-{os.geteuid()}"


def test_errors_have_the_same_numbers(folder: Path) -> None:
    folder.mkdir()
    sends = {module._send, module._python_send}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for send in sends:
            assert send(sender, b"x", bytes(folder / "nobody")) == errno.ENOENT
            assert send(sender, b"x", bytes(folder / ("x" * 200))) != 0
    for send in sends:
        assert send(sender, b"x", bytes(folder / "nobody")) == errno.EBADF
    for receive in {module._receive, module._python_receive}:
        assert receive(sender, 10) is None


def test_who_comes_back_is_not_taken_for_who_was_killed(
    join: Join, folder: Path, foreign: ForeignCount
) -> None:
    a, b = join(), join()
    a.look()
    (folder / b._own).unlink()  # somebody has tidied up
    a.tell(event(1))
    assert not b.look()
    b.close()
    again = Neighbours(folder, bytes.fromhex(b._own), wire=Wire(["secret"]), foreign=foreign)
    with closing(again):
        a.look()
        assert again.look()
        a.tell(event(2))
        assert list(again.receive()) == [event(2)]


def test_those_who_come_and_go_do_not_keep_each_other_out(
    folder: Path, foreign: ForeignCount, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each attempt may come to nothing, and these are far more than ever come and go at a time.
    monkeypatch.setattr(module, "_ATTEMPTS", 10)
    failed: list[OSError] = []

    def come_and_go(number: int) -> None:
        place = folder.parent / "all" / str(number % 2)
        for _ in range(150):
            try:
                node = b"node %03d" % number
                Neighbours(place, node, wire=Wire(), foreign=foreign).close()
            except OSError as error:
                failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_links_are_not_followed_where_others_have_left_something(
    join: Join, folder: Path, tmp_path: Path
) -> None:
    folder.parent.chmod(0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(folder.parent / "dead"))
    elsewhere = folder.parent.with_name(folder.parent.name + "-elsewhere")
    elsewhere.mkdir()
    try:
        (folder.parent / "dead").rename(elsewhere / "dead")
        (folder.parent / "link").symlink_to(elsewhere)
        join()
        assert [path.name for path in elsewhere.iterdir()] == ["dead"]
    finally:
        shutil.rmtree(elsewhere)


def test_the_dead_are_found_where_there_are_many(
    join: Join, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    monkeypatch.setattr(module, "_CLEAN", 0.0)
    a, b, c, d = join(), join(), join(), join()
    a.look()
    long_ago = os.stat(folder).st_mtime - 10
    os.utime(folder, (long_ago, long_ago))
    a.look()
    c.forget()  # who is killed leaves no trace in the folder
    d.forget()
    a.look()
    assert len(a.others) == 1
    a.tell(event())
    assert list(b.receive()) == [event()]
